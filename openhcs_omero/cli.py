"""The command line: `openhcs-omero login | import | ls | info | get | serve | demo | ...`."""

# Commands import what they need when they run: importing omero-py and pandas here would slow `--help` by two seconds.

import contextlib
import functools
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from openhcs_omero import __version__, password
from openhcs_omero.errors import OpenHCSError, not_written
from openhcs_omero.plates.arrangement import Incomplete
from openhcs_omero.plates.paths import PlatePath, WellPath, in_s3

if TYPE_CHECKING:
    from openhcs_omero.io.omero_local import OMEROLocalBackend
    from openhcs_omero.omero.connection import BlitzGateway
    from openhcs_omero.omero.server import Server
    from openhcs_omero.plates.paths import VirtualPath

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Process high-content screening plates in OMERO with Snakemake.",
    epilog="The password comes from OMERO_PASSWORD or a prompt. A session of `openhcs-omero login` needs none.",
)

Host = Annotated[str | None, typer.Option("--host", envvar="OMERO_HOST", help="OMERO server (localhost)")]
Port = Annotated[int | None, typer.Option("--port", envvar="OMERO_PORT", help="its port (4064)")]
User = Annotated[str | None, typer.Option("--user", envvar="OMERO_USER", help="user name on that server")]
Where = Annotated[str | None, typer.Argument(help="user@host or user@host:port (OMERO_USER, OMERO_HOST, OMERO_PORT)")]


PatternOption = Annotated[
    str | None,
    typer.Option(
        "--pattern",
        help="regular expression for the names of a folder's files, with the groups well or row and column, site, "
        "channel, z, t; or cellvoyager, imagexpress, incell or 'opera phenix'",
    ),
]
IncompleteOption = Annotated[
    Incomplete,
    typer.Option("--incomplete", help="what to do about missing planes: error, skip the site, or fill with black"),
]
ImageFormat = Literal["tiff", "ome-tiff"]


def main() -> None:
    """Entry point of the `openhcs-omero` command."""
    for library in ("tifffile", "omero"):  # our own errors say what these would log
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    password.read()  # removes it from the environment of all child processes
    app()


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"openhcs-omero {__version__}")
        raise typer.Exit()


def _command(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a command whose errors are shown as one line on stderr without a traceback."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except OpenHCSError as error:
                _fail(str(error))
            except KeyboardInterrupt:
                _fail("interrupted", code=130, prefix="")
            except Exception as error:
                from openhcs_omero.core.failures import lost_server

                if sentence := not_written(error) or lost_server(error):
                    _fail(sentence)
                if type(error).__module__.split(".")[0] not in ("Ice", "Glacier2", "omero"):
                    raise
                _fail(f"the OMERO server reported an error: {_reason(error)}")

        return app.command(name)(run)

    return register


def _fail(sentence: str, code: int = 1, prefix: str = "error: ") -> None:
    print(prefix + sentence, file=sys.stderr)
    raise typer.Exit(code)


def _reason(error: Exception) -> str:
    """The first line of a server's message, or the name of the error if there is no message."""
    message = str(getattr(error, "message", None) or "").strip()
    return f"{type(error).__name__}{f': {message.splitlines()[0]}' if message else ''}"


def _server(host: str | None, port: int | None, user: str | None, data_dir: str | None = None) -> "Server":
    from openhcs_omero.omero.server import Server

    return Server.from_config({"host": host, "port": port, "user": user, "data_dir": data_dir})


def _connect(host: str | None, port: int | None, user: str | None) -> "BlitzGateway":
    from openhcs_omero.omero.connection import connect

    return connect(_server(host, port, user))


@_command("login")
def login(where: Where = None) -> None:
    """Log in to an OMERO server; all your programs can use the session until `logout`."""
    from openhcs_omero.omero.stored_login import log_in, server_from

    server, minutes = log_in(server_from(where, _server(None, None, None)))
    print(
        f"logged in to {server.address} as {server.user}; the session ends after {minutes:g} minutes without use, or "
        f"by `openhcs-omero logout {server.who}`"
    )


@_command("logout")
def logout(where: Where = None) -> None:
    """End the stored sessions of a user at an OMERO server."""
    from openhcs_omero.omero.stored_login import log_out, server_from

    server = server_from(where, _server(None, None, None))
    print(f"logged out of {server.address}: {', '.join(log_out(server))}")


@_command("trust")
def trust(where: Annotated[str, typer.Argument(help="host or host:port of an OMERO server")]) -> None:
    """Show a server's certificate, and accept no other one from that server from now on."""
    from openhcs_omero.omero import identity
    from openhcs_omero.omero.stored_login import server_from

    server = server_from(where, _server(None, None, None))
    fingerprint, new = identity.trust(server)
    print(f"SHA-256 fingerprint of the certificate of {server.address}: {fingerprint}")
    print(
        "it is trusted from now on: compare it with the one that the server's administrator gives you"
        if new
        else "it was already trusted"
    )


@_command("serve")
def serve(
    data: Annotated[Path, typer.Option(help="folder for the server's data")] = Path("~/.openhcs-omero"),
    port: Annotated[int, typer.Option(help="port to listen on")] = 4064,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 for all")] = "127.0.0.1",
    root_password_file: Annotated[
        Path | None,
        typer.Option(help="file whose first line is root's password; without it, DATA/root-password is created"),
    ] = None,
    insecure_port: Annotated[
        int | None,
        typer.Option(help="also listen without TLS, for clients that switch to it after the login; 0 for any port"),
    ] = None,
    websocket_port: Annotated[
        int | None, typer.Option(help="also listen on wss://HOST:PORT/omero-ws; 0 for any port")
    ] = None,
    guest: Annotated[bool, typer.Option("--guest", help='let "guest" log in with the password "guest"')] = False,
    query_timeout: Annotated[float, typer.Option(help="end the queries of a call after this many seconds")] = 60,
) -> None:
    """Run an OMERO server in Python for trying things out; unmodified OMERO clients can log in to it."""
    from openhcs_omero.runtime.embedded import become_embedded

    options = ["--host", host, "--port", str(port), "--query-timeout", str(query_timeout), *["--guest"] * guest]
    for option, value in (
        ("--root-password-file", root_password_file),
        ("--insecure-port", insecure_port),
        ("--websocket-port", websocket_port),
    ):
        options += [] if value is None else [option, str(value)]
    become_embedded(data.expanduser(), options)


@_command("demo")
def demo() -> None:
    """Process a synthetic screen in an embedded OMERO server, and show where the results are."""
    from openhcs_omero.demo import run

    raise typer.Exit(run() or 0)


@_command("import")
def import_(
    folder: Annotated[
        str, typer.Argument(help="folder of a microscope, OpenHCS, OME-Zarr or TIFFs, or s3://bucket/plate.zarr")
    ],
    name: Annotated[str | None, typer.Option(help="name of the plate (default: the name of the folder)")] = None,
    pattern: PatternOption = None,
    incomplete: IncompleteOption = "error",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what would be imported, without importing it")
    ] = False,
    host: Host = None,
    port: Port = None,
    user: User = None,
) -> None:
    """Import a folder of images as a plate, and print its id."""
    if dry_run:
        _print_folder(folder, pattern, incomplete, False)
        return
    from openhcs_omero.microscopes.importing import import_folder

    conn = _connect(host, port, user)
    with _progress_bar(f"import {Path(folder).name}") as progress:
        plate_id = import_folder(conn, folder, name, pattern, progress, incomplete)
    print(plate_id)


@contextlib.contextmanager
def _progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call with the done and total numbers of images; the first call shows a bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))

    def progress(done: int, total: int) -> None:
        if not bar.task_ids:
            bar.start()
            bar.add_task(label)
        bar.update(bar.task_ids[0], completed=done, total=total)

    try:
        yield progress
    finally:
        if bar.task_ids:
            bar.stop()


@_command("ls")
def ls(
    path: Annotated[
        str,
        typer.Argument(help="/omero, /omero/screen_1, a plate /omero/plate_1, or a well /omero/plate_1/A01"),
    ] = "/omero",
    host: Host = None,
    port: Port = None,
    user: User = None,
) -> None:
    """List all screens and plates, a screen's plates, a plate's wells or a well's planes, and attached files."""
    if screen := _SCREEN.fullmatch(path):
        from openhcs_omero.omero.browsing import as_lines, list_screen, list_screens

        conn = _connect(host, port, user)
        print("\n".join(as_lines([list_screen(conn, int(screen[1]))] if screen[1] else list_screens(conn))))
        return
    place = _parse(path)
    if not isinstance(place, PlatePath | WellPath):
        raise OpenHCSError(f"{path} is a {place.kind}, but ls takes a plate or a well")
    backend = _backend(host, port, user)
    if isinstance(place, PlatePath):
        wells = backend.plate_structure(place.plate_id, place.output).wells
        files = [f"{place}/{well}" for well in wells] + backend.list_attached(str(place))
    else:
        files = backend.list_files(str(place))
    print("\n".join(files))


_SCREEN = re.compile(r"/omero/?|(?:/omero/)?screen_([1-9][0-9]*)/?")


@_command("info")
def info(
    plate: Annotated[
        str, typer.Argument(help="1, plate_1 or plate_1_processed in OMERO, a folder, or s3://bucket/plate.zarr")
    ],
    pattern: PatternOption = None,
    incomplete: IncompleteOption = "error",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    data_dir: Annotated[
        str | None,
        typer.Option(
            help="the server's data folder as this machine sees it; shows how many images can be read from it"
        ),
    ] = None,
    host: Host = None,
    port: Port = None,
    user: User = None,
) -> None:
    """Describe a plate in OMERO, in a folder or on S3, and how its pixels are read."""
    if in_s3(plate) or Path(plate).expanduser().is_dir():
        _print_folder(plate if in_s3(plate) else Path(plate).expanduser(), pattern, incomplete, as_json)
        return
    try:
        place = _parse(plate)
    except OpenHCSError as error:
        raise OpenHCSError(f"there is no folder {plate}, and it names no plate in OMERO: {error}") from None
    if not isinstance(place, PlatePath):
        raise OpenHCSError(f"{plate} is a {place.kind}, but info takes a plate")
    from openhcs_omero.microscopes.describe_omero import describe_in_words, describe_plate

    backend = _backend(host, port, user, data_dir)
    if as_json:
        _print_json(describe_plate(backend, place))
        return
    for label, value in describe_in_words(backend, place):
        print(f"{label:<16}{value}")


def _print_folder(folder: Path | str, pattern: str | None, incomplete: Incomplete, as_json: bool) -> None:
    """Print a description of the plate in a folder."""
    from openhcs_omero.microscopes.describe import describe_folder, in_words

    plate = describe_folder(folder, pattern, incomplete)
    if as_json:
        _print_json(plate)
        return
    for label, text in in_words(plate):
        print(f"{label:<16}{text}")


def _print_json(values: dict[str, Any]) -> None:
    import json

    print(json.dumps(values, indent=2, ensure_ascii=False))


@_command("get")
def get(
    path: Annotated[str, typer.Argument(help="virtual path of a plate, a well, a site, a plane or an attached file")],
    target: Annotated[Path, typer.Argument(help="folder to put the copy into, or file to write")],
    form: Annotated[
        ImageFormat | None,
        typer.Option("--format", help="tiff: one file per plane of a plate or well; ome-tiff: one file per site"),
    ] = None,
    annotation: Annotated[
        int | None, typer.Option(help="id of the file's annotation, if several files have that name")
    ] = None,
    host: Host = None,
    port: Port = None,
    user: User = None,
) -> None:
    """Copy a plate, a well, a site, a plane or an attached file out of OMERO; images as OME-TIFF."""
    from openhcs_omero.io.downloading import download

    place = _parse(path)
    with _progress_bar(f"get {path}") as progress:
        download(_backend(host, port, user), place, target, form, progress, annotation)


@_command("delete")
def delete(
    path: Annotated[
        str,
        typer.Argument(
            help="virtual path of a derived plate, as /omero/plate_1_processed, or a pattern, as "
            "'/omero/plate_*_processed'"
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be deleted, without deleting it")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    host: Host = None,
    port: Port = None,
    user: User = None,
) -> None:
    """Delete derived plates with their files and tables, also those on the source plates; the source plates stay."""
    from openhcs_omero.omero.deletion import delete_derived, plan_deletion, plan_deletions
    from openhcs_omero.plates.paths import in_full

    if any(letter in path for letter in "*?["):
        conn = _connect(host, port, user)
        deletions = plan_deletions(conn, in_full(path))
    else:
        place = _parse(path)
        if not isinstance(place, PlatePath):
            raise OpenHCSError(
                f"{path} names a {place.kind}: delete takes a derived plate, as /omero/plate_1_processed"
            )
        conn = _connect(host, port, user)
        deletions = [plan_deletion(conn, place)]
    for deletion in deletions:
        print("\n".join(deletion.sentences()))
    if dry_run or not any(deletions):
        return
    try:
        agreed = yes or typer.confirm("Delete all of this?")
    except typer.Abort:  # nobody is there to answer
        agreed = False
    if not agreed:
        raise OpenHCSError("nothing was deleted, because nobody agreed: answer y, or give --yes")
    for deletion in deletions:
        delete_derived(conn, deletion)
        print(f"{deletion.path} is deleted")


@_command("export")
def export(
    plate: Annotated[str, typer.Argument(help="1, plate_1 or /omero/plate_1, or a derived plate plate_1_processed")],
    target: Annotated[
        Path, typer.Argument(help="folder to write, as OUT.zarr; an earlier export of the plate continues")
    ],
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="processes that read at once (4, or as many as there are CPUs)")
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="the server's data folder as this machine sees it, to read pixels from")
    ] = None,
    host: Host = None,
    port: Port = None,
    user: User = None,
) -> None:
    """Write a plate of OMERO as an OME-Zarr plate, with all acquisitions, smaller images for viewers, and masks."""
    from openhcs_omero.io.exporting import export_plate

    place = _parse(plate)
    if not isinstance(place, PlatePath):
        raise OpenHCSError(f"{plate} is a {place.kind}, but export takes a plate")
    with _progress_bar(f"export {place}") as progress:
        notes = export_plate(_backend(host, port, user, data_dir), place, target, progress, processes)
    for note in notes:
        print(note, file=sys.stderr)


@_command("status")
def status(
    directory: Annotated[Path, typer.Argument(help="folder where snakemake was started")] = Path("."),
) -> None:
    """Show how far the run in a folder is: the wells of each plate, and the time left. Asks no server."""
    from openhcs_omero.core.status import show_status

    show_status(directory)


@_command("derived")
def derived(host: Host = None, port: Port = None, user: User = None) -> None:
    """List the derived plates on the server: their source, date, size and state."""
    from openhcs_omero.omero.verifying import list_derived_plates

    plates = list_derived_plates(_connect(host, port, user))
    if not plates:
        print("there are no derived plates that this user may see")
    width = max((len(plate.path) for plate in plates), default=0)
    for plate in plates:
        size = f"{plate.size / 1e6:,.0f} MB"
        source = f"from {plate.source_name!r} ({plate.source_id})" if plate.source_name else f"from {plate.source_id}"
        print(f"{plate.path:<{width}}  {plate.made:%Y-%m-%d %H:%M}  {size:>12}  {plate.state:<14}  {source}")


@_command("verify")
def verify(
    path: Annotated[str, typer.Argument(help="virtual path of a derived plate, such as /omero/plate_1_processed")],
    host: Host = None,
    port: Port = None,
    user: User = None,
) -> None:
    """Read every image and file of a derived plate, and say whether they and the source are still the same."""
    from openhcs_omero.omero.derived import find_derived
    from openhcs_omero.omero.verifying import verify as find_problems

    place = _parse(path)
    if not isinstance(place, PlatePath) or place.output is None:
        raise OpenHCSError(f"{path} is no derived plate: verify takes one like /omero/plate_1_processed")
    conn = _connect(host, port, user)
    derived_id = find_derived(conn, place.plate_id, place.output)
    if derived_id is None:
        raise OpenHCSError(f"there is no plate {place}")
    with _progress_bar(f"verify {place}") as progress:
        problems = list(find_problems(conn, derived_id, progress))
    for problem in problems:
        print(problem)
    if problems:
        raise OpenHCSError(f"{len(problems)} things in {place} are not as they were written")
    print(f"{place} is as it was written, and its source has not changed since")


@_command("steps")
def steps(
    name: Annotated[
        str | None, typer.Argument(help="show all about this step; your own steps are written module:function")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, with a JSON schema of the params")] = False,
) -> None:
    """List the included steps with their params, units and defaults, or describe one."""
    import json

    from openhcs_omero.core.steps.catalog import describe_steps, find_step
    from openhcs_omero.core.steps.showing import print_list, print_step

    found = describe_steps() if name is None else [find_step(name)]
    if as_json:
        plain = [step.as_json() for step in found]
        print(json.dumps(plain[0] if name else plain, indent=2, ensure_ascii=False))
    elif name is None:
        print_list(found)
    else:
        print_step(found[0])


@_command("analyse")
def analyse(
    tables: Annotated[list[Path], typer.Argument(help="tables with one row per well: CSV or TSV, such as wells.csv")],
    config: Annotated[Path, typer.Option(help="YAML file with the keys plate_map, analysis and qc")],
    out: Annotated[Path | None, typer.Option(help="folder for the results (default: the folder of the tables)")] = None,
) -> None:
    """Analyze tables of wells: quality, normalized values, hits, dose responses, and a report."""
    from openhcs_omero.analysis.from_files import analyze_files

    print("\n".join(analyze_files(tables, config, out)))


KeysFolder = Annotated[Path | None, typer.Option("--keys", help="folder of the keys (default: ~/.openhcs-omero-keys)")]


@_command("zmq-server")
def zmq_server(
    folder: Annotated[Path, typer.Option(help="working folder, where results are kept")] = Path("."),
    listen: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 for all")] = "127.0.0.1",
    listen_port: Annotated[int, typer.Option(help="port to listen on")] = 7777,
    allow: Annotated[
        list[str] | None, typer.Option(help="module or package whose functions may be steps; can be repeated")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Snakemake profile, such as cluster (default: this machine)")
    ] = None,
    cores: Annotated[int | None, typer.Option(help="CPUs for jobs on this machine (default: all)")] = None,
    keys: KeysFolder = None,
    host: Host = None,
    port: Port = None,
    user: User = None,
) -> None:
    """Run pipelines near OMERO for remote clients (ZMQExecutionClient)."""
    from openhcs_omero.runtime.zmq_execution_server import run_server
    from openhcs_omero.runtime.zmq_messages import KEYS, is_loopback

    server = _server(host, port, user)
    named = {key: getattr(server, key) for key in ("host", "port", "user", "ca") if getattr(server, key)}
    config = {"omero": named, "profile": profile, "cores": cores}
    if keys is None and not is_loopback(listen):
        keys = KEYS
    run_server(folder, listen, listen_port, allow or [], config, keys and keys.expanduser().resolve())


@_command("zmq-keys")
def zmq_keys(
    client: Annotated[str, typer.Argument(help="name of the client to create keys for")] = "client",
    keys: KeysFolder = None,
) -> None:
    """Create keys for a client of zmq-server, and for the server if it has none; run this where the server runs."""
    from openhcs_omero.runtime.zmq_messages import KEYS, make_keys

    folder = (keys or KEYS).expanduser()
    for file in make_keys(folder, client):
        print(file)
    print(f"the client needs a folder with {folder / 'server.key'} and {folder / client}.key_secret", file=sys.stderr)


def _parse(text: str) -> "VirtualPath":
    """Parse a virtual path; `plate_1` and `1` are short for /omero/plate_1."""
    from openhcs_omero.plates.paths import in_full, parse_path

    try:
        return parse_path(in_full(text))
    except ValueError as error:
        raise OpenHCSError(str(error)) from None


def _backend(host: str | None, port: int | None, user: str | None, data_dir: str | None = None) -> "OMEROLocalBackend":
    from openhcs_omero.io.omero_local import OMEROLocalBackend

    return OMEROLocalBackend(server=_server(host, port, user, data_dir))


if __name__ == "__main__":
    main()
