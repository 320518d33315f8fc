"""What a client can't do to the server: take all memory, keep it busy, guess passwords, or come in by an open door."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import omero
import omero.clients
import omero.grid
import psutil
import pytest
from models import new, save
from omero.rtypes import rint, rstring
from omero_embedded import OmeroServer, start
from omero_embedded.people.guesses import FREE

Glacier2 = omero.clients.Glacier2
pytestmark = pytest.mark.embedded_only
GROWTH = 300_000_000  # bytes that the server's memory may grow by during all of these calls
ENDLESS = "select count(a.id) from " + ", ".join(f"Format {name}" for name in "abcdefgh")
ASKS_FOR_EVER = """
import sys, omero.clients
client = omero.client(sys.argv[1], int(sys.argv[2]))
session = client.createSession("root", sys.stdin.readline().strip())
print("asking", flush=True)
session.getQueryService().projection(sys.argv[3], None)
"""


def serving(folder, *options):
    """A started server, and how to log in to it."""
    process = start(folder, options=options)
    return process, OmeroServer(process.host, process.port, "root", process.password, process.data)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The process of a server that was asked for nothing, and the server."""
    process, server = serving(tmp_path_factory.mktemp("omero"))
    yield process, server
    server.close()
    process.stop()


@pytest.fixture(scope="module")
def conn(server):
    conn = server[1].login()
    yield conn
    conn.close()


@pytest.fixture(scope="module")
def large(conn):
    """The id of pixels of two gigabytes that nobody has written: 1000 sections of 1000 x 1000."""
    pixels = new(
        "Pixels",
        sizeX=1000,
        sizeY=1000,
        sizeZ=1000,
        sizeC=1,
        sizeT=1,
        sha1="Pending...",
        pixelsType=new("PixelsType", value="uint16"),
        dimensionOrder=new("DimensionOrder", value="XYZCT"),
    )
    pixels.addChannel(new("Channel", logicalChannel=new("LogicalChannel", name="channel")))
    image = new("Image", name="large")
    image.addPixels(pixels)
    return save(conn, image).getPrimaryPixels().id.val


def wait_until(question, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


# -- memory ------------------------------------------------------------------------------------------------------------


def raw_file(conn, _):
    store = conn.c.sf.createRawFileStore()
    store.setFileId(save(conn, new("OriginalFile", name="file", path="/")).id.val)
    return lambda: store.read(0, 2_000_000_000)


def pixels(call):
    def opened(conn, large):
        store = conn.c.sf.createRawPixelsStore()
        store.setPixelsId(large, False)
        return lambda: call(store)

    return opened


def rendering(conn, large):
    engine = conn.c.sf.createRenderingEngine()
    engine.lookupPixels(large)
    engine.resetDefaultSettings(True)
    engine.lookupRenderingDef(large)
    return lambda: engine.renderProjectedCompressed(
        omero.constants.projection.ProjectionType.MAXIMUMINTENSITY, 0, 1, 0, 999
    )


def thumbnail(conn, large):
    store = conn.c.sf.createThumbnailStore()
    store.setPixelsId(large)
    return lambda: store.getThumbnail(rint(60_000), rint(60_000))


def values(conn, _):
    asked = omero.sys.ParametersI().addLongs("ids", range(100_001))
    return lambda: conn.getQueryService().projection("select i.id from Image i where i.id in (:ids)", asked)


def channels(conn, _):
    pixel_type = conn.getTypesService().getEnumeration("PixelsType", "uint16")
    return lambda: conn.c.sf.getPixelsService().createImage(1, 1, 1, 1, list(range(1_000_000)), pixel_type, "name", "")


def table(conn, _):
    made = conn.c.sf.sharedResources().newTable(0, "table")
    made.initialize([omero.grid.LongColumn("a", "", [])])
    return lambda: made.read([0], 0, 2_000_000_000)


def _peak(server) -> int:
    """The highest memory that the server has taken so far, in bytes."""
    status = Path(f"/proc/{server[0].process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


@pytest.mark.parametrize(
    "prepare",
    [
        raw_file,
        rendering,
        thumbnail,
        channels,
        values,
        table,
        pixels(lambda store: store.getStack(0, 0)),
        pixels(lambda store: store.getTimepoint(0)),
        pixels(lambda store: store.getRegion(2_000_000_000, 0)),
        pixels(lambda store: store.getHypercube([0] * 5, [1000, 1000, 1000, 1, 1], [1] * 5)),
        pixels(lambda store: store.getHistogram([0], 2_000_000_000, False, None)),
    ],
    ids=[
        "file",
        "projection",
        "thumbnail",
        "channels",
        "values",
        "table",
        "stack",
        "timepoint",
        "region",
        "hypercube",
        "bins",
    ],
)
def test_a_call_that_asks_for_gigabytes_is_refused_before_memory_is_taken(server, conn, large, prepare):
    call = prepare(conn, large)
    peak_before = _peak(server)  # the highest since its start, which earlier tests may have raised
    with pytest.raises(omero.OverUsageException, match="ask for less at once"):
        call()
    assert _peak(server) < max(peak_before + 1, psutil.Process(server[0].process.pid).memory_info().rss + GROWTH)


def test_reads_within_the_limit_succeed(conn, large):
    store = conn.c.sf.createRawPixelsStore()
    store.setPixelsId(large, False)
    assert store.getRegion(20_000_000, 0) == bytes(20_000_000)
    assert len(store.getHypercube([0] * 5, [1000, 1000, 1000, 1, 1], [10, 10, 10, 1, 1])) == 2_000_000
    store.close()


def test_an_export_ends_where_the_file_does(conn):
    image = conn.createImageFromNumpySeq(iter([np.eye(8, dtype="uint8")]), "eye")
    exporter = conn.c.sf.createExporter()
    exporter.addImage(image.getId())
    size = exporter.generateTiff()
    assert len(exporter.read(0, 2_000_000_000)) == size and exporter.read(size + 5, 1_000_000_000) == b""
    exporter.close()


# -- queries -----------------------------------------------------------------------------------------------------------


def test_a_query_ends_at_a_row_limit(conn):
    cross = ", ".join(["a.id", "b.value"] * 20)
    query = f"select {cross} from Format a, Format b, Format c, Format d"
    with pytest.raises(omero.OverUsageException, match="more than 100000 rows: ask for them in pages"):
        conn.getQueryService().projection(query, None)
    page = omero.sys.ParametersI().page(0, 5)
    assert len(conn.getQueryService().projection(query, page)) == 5


def test_a_query_ends_when_its_client_is_killed(server):
    process, served = server
    watched = psutil.Process(process.process.pid)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", ASKS_FOR_EVER, served.host, str(served.port), ENDLESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        client.stdin.write(served.password + "\n")
        client.stdin.flush()
        assert client.stdout.readline() == "asking\n"
        busy = watched.cpu_times().user + 0.5
        wait_until(lambda: watched.cpu_times().user > busy)  # the query runs
        client.kill()
    log = process.data / "server.log"
    wait_until(lambda: "projection of user root: The query was ended because its client has gone." in log.read_text())


# -- doors -------------------------------------------------------------------------------------------------------------


def test_it_listens_with_tls_on_this_machine_only(server, conn):
    process, _ = server
    listening = [
        one.laddr
        for one in psutil.Process(process.process.pid).net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    ]
    assert listening == [("127.0.0.1", process.port)] and process.errors() == ""
    assert conn.getConfigService().getConfigValue("omero.router.insecure") == ""


def test_guest_cannot_log_in(server):
    client = omero.client(server[0].host, server[0].port)
    with pytest.raises(Glacier2.PermissionDeniedException):
        client.createSession("guest", "guest")
    client.closeSession()


def test_wrong_passwords_slow_the_next_ones_down(server):
    process, served = server
    user = served.make_user()
    for _ in range(FREE // 2):  # BlitzGateway sends each password twice
        with pytest.raises(ConnectionError):
            served.login(user.name, "wrong")
    client = omero.client(served.host, served.port)
    with pytest.raises(Glacier2.PermissionDeniedException) as refused:
        client.createSession(user.name, user.password)
    client.closeSession()
    assert refused.value.reason == f"Too many wrong passwords for '{user.name}': wait 1 seconds."
    served.login().close()  # others are not affected

    def gets_in():
        try:
            served.login(user.name, user.password).close()
        except ConnectionError:
            return False
        return True

    wait_until(gets_in)
    assert (
        f"wrong password for '{user.name}' from 127.0.0.1, {FREE} in a row" in (process.data / "server.log").read_text()
    )


def test_passwords_are_not_guessed_from_within_a_session_either(server):
    user = server[1].make_user()
    with server[1].login(user.name, user.password) as conn:
        change = conn.c.sf.getAdminService().changePasswordWithOldPassword
        for _ in range(FREE):
            with pytest.raises(omero.SecurityViolation, match="check failed"):
                change(rstring("wrong"), rstring("new"))
        with pytest.raises(omero.SecurityViolation, match="Too many wrong passwords"):
            change(rstring(user.password), rstring("new"))
        with pytest.raises(omero.SecurityViolation, match="Too many wrong passwords"):
            conn.c.sf.setSecurityPassword(user.password)
        with pytest.raises(omero.AuthenticationException) as refused:
            conn.c.sf.getSessionService().createSession(omero.sys.Principal(user.name, "", "Test", None), user.password)
        assert "Too many wrong passwords" in refused.value.reason


def test_what_is_asked_for(tmp_path):
    """A guest, a plain port, another address, shorter queries; the guest is not for ever."""
    asked = ("--guest", "--insecure-port", "0", "--query-timeout", "1", "--host", "0.0.0.0")
    process, server = serving(tmp_path, *asked)
    with process:
        server = OmeroServer("127.0.0.1", *[getattr(server, name) for name in ("port", "user", "password", "data")])
        assert process.errors().count("\n") == 1 and "everybody whose machine reaches port" in process.errors()
        server.login("guest", "guest").close()
        plain = server.login(secure=False)
        assert not plain.isSecure() and plain.getUser().getName() == "root"
        with pytest.raises(omero.OverUsageException, match="ended after 1 seconds"):
            plain.getQueryService().projection(ENDLESS, None)
        plain.close()
    process, server = serving(tmp_path)
    with process, pytest.raises(ConnectionError):
        server.login("guest", "guest")


@pytest.mark.parametrize(
    "condition",
    [
        "a == 9**9**9**9",
        "a == 2 * (9**9)**(9**9)",
        "a == -9**99999999",
        "a == (1 << 10000000000)",
        "a == ('x' * 10000000000)",
        "(" * 5000 + "a" + ")" * 5000 + " > 1",
        " | ".join(["(a > 1)"] * 20_000),
        "[b for b in a]",
        "(lambda: 1)() > a",
        "a.__class__ == 1",
    ],
)
def test_conditions_on_tables_that_take_for_ever_are_refused(conn, condition):
    table = conn.c.sf.sharedResources().newTable(0, "table")
    table.initialize([omero.grid.LongColumn("a", "", [])])
    table.addData([omero.grid.LongColumn("a", "", list(range(200)))])
    with pytest.raises(omero.ApiUsageException):
        table.getWhereList(condition, {}, 0, 200, 1)
    assert table.getWhereList("(a == 10**2) | (a * 2 == 2**3 - 4)", {}, 0, 200, 1) == [2, 100]
    table.close()
