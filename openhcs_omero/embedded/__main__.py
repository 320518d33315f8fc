"""`python -m openhcs_omero.embedded --data DIR`: the server without the rest of the package."""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from openhcs_omero.embedded.server import serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m openhcs_omero.embedded", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the database and the pixels")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=4064, help="TLS port; 0 for any that is free")
    parser.add_argument("--root-password-file", type=Path, help="file whose first line is root's password")
    args = parser.parse_args()
    return serve(args.data, args.host, args.port, args.root_password_file)


if __name__ == "__main__":
    sys.exit(main())
