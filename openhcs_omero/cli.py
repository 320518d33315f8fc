"""The command line: `openhcs-omero login | import | ls | info | get | serve | demo | ...`."""

# Commands import what they need when they run: importing omero-py and pandas here would slow `--help` by two seconds.

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openhcs_omero import __version__, password
from openhcs_omero.errors import OpenHCSError
from openhcs_omero.plates.arrangement import Incomplete
from openhcs_omero.plates.paths import FilePath, PlatePath, WellPath

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
) -> None:
    """Run an OMERO server in Python for trying things out; unmodified OMERO clients can log in to it."""
    from openhcs_omero.runtime.embedded import become_embedded

    become_embedded(data.expanduser(), host, port, root_password_file)


@_command("demo")
def demo() -> None:
    """Process a synthetic screen in an embedded OMERO server, and show where the results are."""
    from openhcs_omero.demo import run

    raise typer.Exit(run() or 0)


@_command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="folder of a microscope, of OpenHCS, or of TIFFs")],
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
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from openhcs_omero.microscopes.importing import import_folder

    conn = _connect(host, port, user)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))

    def progress(done: int, total: int) -> None:
        if not bar.task_ids:  # first call: all files were checked
            bar.start()
            bar.add_task(f"import {folder.name}")
        bar.update(bar.task_ids[0], completed=done, total=total)

    try:
        plate_id = import_folder(conn, folder, name, pattern, progress, incomplete)
    finally:
        if bar.task_ids:
            bar.stop()
    print(plate_id)


@_command("ls")
def ls(
    path: Annotated[
        str, typer.Argument(help="virtual path of a plate, /omero/plate_1, or of a well, /omero/plate_1/A01")
    ],
    host: Host = None,
    port: Port = None,
    user: User = None,
) -> None:
    """List a plate's wells or a well's planes, and the files attached to it."""
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


@_command("info")
def info(
    plate: Annotated[str, typer.Argument(help="1, plate_1 or plate_1_processed in OMERO, or a folder")],
    pattern: PatternOption = None,
    incomplete: IncompleteOption = "error",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON; for folders only")] = False,
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
    """Describe a plate in OMERO or in a folder, and how its pixels are read."""
    if Path(plate).expanduser().is_dir():
        _print_folder(Path(plate).expanduser(), pattern, incomplete, as_json)
        return
    if as_json:
        raise OpenHCSError(f"--json is for folders, and there is no folder {plate}")
    place = _parse(plate)
    if not isinstance(place, PlatePath):
        raise OpenHCSError(f"{plate} is a {place.kind}, but info takes a plate")
    backend = _backend(host, port, user, data_dir)
    for label, value in _describe(backend, place):
        print(f"{label:<16}{value}")


def _print_folder(folder: Path, pattern: str | None, incomplete: Incomplete, as_json: bool) -> None:
    """Print a description of the plate in a folder."""
    import json

    from openhcs_omero.microscopes.describe import describe_folder, in_words

    plate = describe_folder(folder, pattern, incomplete)
    if as_json:
        print(json.dumps(plate, indent=2, ensure_ascii=False))
        return
    for label, text in in_words(plate):
        print(f"{label:<16}{text}")


def _describe(backend: "OMEROLocalBackend", place: PlatePath) -> Iterator[tuple[str, str]]:
    """Yield the output of `info` for a plate, line by line."""
    from collections import Counter

    from openhcs_omero.omero.derived import list_derived
    from openhcs_omero.omero.near import ways
    from openhcs_omero.omero.pixels import read_metadata

    plate = backend.plate_structure(place.plate_id, place.output)
    filled = plate.wells_with_images()
    images = [image for _, image in plate.images()]
    yield "plate", f"{place}  {plate.name}"
    yield "OMERO id", str(plate.plate_id)
    yield "wells", _wells_in_words(list(plate.wells), filled, plate.rows, plate.columns)
    sites = sorted({len(plate.wells[name].images) for name in filled})
    yield "sites", f"{' or '.join(map(str, sites)) or 'none'} per well, {len(images)} in all"
    kinds = Counter((image.shape, image.pixel_type) for image in images)
    for ((t, c, z, y, x), pixel_type), count in kinds.items():
        many = f"  ({count} sites)" if len(kinds) > 1 else ""
        yield "image size", f"{x} x {y} pixels, {pixel_type}; z {z}, channels {c}, timepoints {t}{many}"
    if images:
        about = read_metadata(backend.conn, images[:1])[images[0].image_id]
        for number, name in enumerate(about.channel_names):
            yield f"channel {number}", name or "(no name)"
        size = about.pixel_size[1]
        yield "pixel size", "unknown" if size is None else f"{size:g} µm"
        for way, count in ways(backend.conn, images).items():
            yield "read", f"{count} image{'s' if count > 1 else ''} {way}"
    if place.output is None:
        for output, derived_id in list_derived(backend.conn, place.plate_id).items():
            yield "derived plate", f"{place}_{output}  OMERO id {derived_id}"
    for path in backend.list_files(str(place)):
        if isinstance(_parse(path), FilePath):
            yield "file", path


def _wells_in_words(wells: list[str], filled: list[str], rows: int, columns: int) -> str:
    if not wells:
        return f"none of {rows} x {columns}"
    empty = f", {len(wells) - len(filled)} of them without images" if len(filled) < len(wells) else ""
    return f"{len(wells)} of {rows} x {columns}, {wells[0]} to {wells[-1]}{empty}"


@_command("get")
def get(
    path: Annotated[str, typer.Argument(help="virtual path of a plane, a site or an attached file")],
    file: Annotated[Path, typer.Argument(help="file to write, or folder to write it into; planes and sites as .tif")],
    host: Host = None,
    port: Port = None,
    user: User = None,
) -> None:
    """Copy a plane, a whole site or an attached file out of OMERO."""
    from openhcs_omero.io.disk import DiskBackend

    place = _parse(path)
    if isinstance(place, PlatePath | WellPath):
        raise OpenHCSError(f"{path} is a {place.kind}, but get takes a plane, a site or an attached file")
    path = str(place)
    target = file / path.rsplit("/", 1)[-1] if file.is_dir() else file
    if not isinstance(place, FilePath) and target.suffix.lower() not in (".tif", ".tiff"):
        raise OpenHCSError(f"{path} is an image: give {file} the ending .tif")
    backend, disk = _backend(host, port, user), DiskBackend()
    if isinstance(place, FilePath):
        disk.save_bytes(backend.load_bytes(path), target)
    else:
        disk.save(backend.load(path), target)


@_command("analyse")
def analyse(
    tables: Annotated[list[Path], typer.Argument(help="tables with one row per well: CSV or TSV, such as wells.csv")],
    config: Annotated[Path, typer.Option(help="YAML file with the keys plate_map, analysis and qc")],
    out: Annotated[Path | None, typer.Option(help="folder for the results (default: the folder of the tables)")] = None,
) -> None:
    """Analyze tables of wells: quality, normalized values, hits, dose responses, and a report."""
    from openhcs_omero.analysis.command import analyze_files

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
