"""The command line: `omero-embedded serve` and `omero-embedded missing`."""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path


def main() -> None:
    """Entry point of the `omero-embedded` command."""
    parser = argparse.ArgumentParser(prog="omero-embedded", description="An OMERO server in Python, for tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("missing", help="list what OMERO has and this server has not")
    serve = commands.add_parser("serve", help="run the server")
    serve.add_argument("--data", type=Path, default=Path("~/.omero-embedded"), help="folder for the server's data")
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only); 0.0.0.0 for all"
    )
    serve.add_argument("--port", type=int, default=4064, help="port to listen on")
    serve.add_argument("--root-password-file", type=Path, help="file whose first line is root's password")
    serve.add_argument(
        "--insecure-port",
        type=int,
        metavar="PORT",
        help="also listen without TLS, for clients that switch to it after the login; 0 for any port",
    )
    serve.add_argument(
        "--websocket-port", type=int, metavar="PORT", help="also listen on wss://HOST:PORT/omero-ws; 0 for any port"
    )
    serve.add_argument("--guest", action="store_true", help='let "guest" log in with the password "guest"')
    serve.add_argument(
        "--query-timeout",
        type=float,
        default=60,
        metavar="SECONDS",
        help="end the queries of a call after this time (60)",
    )
    options = parser.parse_args()
    if options.command == "missing":
        from omero_embedded.ice.missing import markdown

        sys.stdout.write(markdown())
        return
    gc.disable()  # until the server is ready: what is imported stays, and looking for garbage in it takes 0.2 s
    from omero_embedded.ice.server import Allowed
    from omero_embedded.ice.server import serve as run_server

    allowed = Allowed(options.insecure_port, options.websocket_port, options.guest, options.query_timeout)
    sys.exit(run_server(options.data.expanduser(), options.host, options.port, options.root_password_file, allowed))


if __name__ == "__main__":
    main()
