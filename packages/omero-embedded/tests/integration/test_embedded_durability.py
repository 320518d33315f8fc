"""The embedded server is killed while eight clients write: what it acknowledged is there, nothing is there by half."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import omero
import omero.clients
import pytest
from models import new, ref
from omero.gateway import BlitzGateway
from omero.rtypes import rbool, rstring
from omero_embedded.process import start

CLIENTS, KILLS = 8, 50
SEED = 20261123


@contextmanager
def writers(folder: Path) -> Iterator[list[subprocess.Popen]]:
    """Eight processes of writer.py, each with a journal in the folder."""
    script = Path(__file__).with_name("writer.py")
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), str(folder / f"journal {number}"), str(SEED + number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(CLIENTS)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def make_users(conn: BlitzGateway) -> None:
    """user0 to user7 in one read-write group, with the password "pw"."""
    admin = conn.c.sf.getAdminService()
    group = new("ExperimenterGroup", name="all", ldap=rbool(False))
    group.details.permissions = omero.model.PermissionsI("rwrw--")
    group = ref("ExperimenterGroup", admin.createGroup(group))
    for number in range(CLIENTS):
        user = new("Experimenter", omeName=f"user{number}", firstName="A", lastName="B", ldap=rbool(False))
        admin.createExperimenterWithPassword(user, rstring("pw"), group, [ref("ExperimenterGroup", 1)])


def as_root(server) -> BlitzGateway:
    conn = BlitzGateway("root", server.password, host=server.host, port=server.port, secure=True)
    assert conn.connect(), conn.getLastError()
    conn.SERVICE_OPTS.setOmeroGroup("-1")
    return conn


class Acknowledged:
    """What the clients' journals say."""

    def __init__(self, folder: Path):
        self.plates: set[int] = set()
        self.pixels: dict[int, str] = {}
        self.files: dict[int, str] = {}
        self.tables: dict[int, int] = {}
        self.deleted: set[tuple[str, int]] = set()
        self._of_image: dict[int, int] = {}
        for journal in sorted(folder.glob("journal *")):
            for line in journal.read_text().splitlines():
                self._take(*json.loads(line))

    def _take(self, kind: str, *what) -> None:
        if kind == "plate":
            self.plates.add(what[0])
        elif kind == "image":
            self._of_image[what[0]] = what[1]
        elif kind in ("pixels", "file", "table"):
            {"pixels": self.pixels, "file": self.files, "table": self.tables}[kind][what[0]] = what[1]
        elif kind == "deleted":
            self.deleted.add((what[0], what[1]))
        elif what[0] == "delete":
            self._forget(what[1], what[2])
        else:
            {"pixels": self.pixels, "file": self.files}[what[0]].pop(what[1], None)

    def _forget(self, kind: str, oid: int) -> None:
        """From the beginning of a deletion on it may be there or not."""
        if kind == "Plate":
            self.plates.discard(oid)
        elif kind == "Image":
            self.pixels.pop(self._of_image[oid], None)
        else:
            self.files.pop(oid, None)
            self.tables.pop(oid, None)


# -- what must hold after a kill ---------------------------------------------------------------------------------------


def check_folder(data: Path, said: Acknowledged) -> None:
    """Rows and files agree with each other, and with what was acknowledged."""
    with closing(sqlite3.connect(f"file:{data / 'omero.db'}?mode=ro", uri=True)) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert db.execute("pragma foreign_key_check").fetchall() == []
        assert db.execute("select * from pending_file").fetchall() == []
        check_pixels(data, db, said)
        check_files(data, db, said)
        check_plates(db, said)
        for kind, oid in said.deleted:
            assert db.execute(f"select id from {kind} where id = ?", (oid,)).fetchall() == [], (kind, oid)


def numbered(folder: Path) -> dict[int, Path]:
    """The files of a folder, all of which have a number for a name."""
    return {int(path.name): path for path in folder.rglob("*") if path.is_file()}


def check_pixels(data: Path, db: sqlite3.Connection, said: Acknowledged) -> None:
    rows = {
        row[0]: row[1:] for row in db.execute("select id, sha1, sizeX * sizeY * sizeZ * sizeC * sizeT * 2 from pixels")
    }
    there = numbered(data / "Pixels")
    assert set(there) <= set(rows), "pixels' files without rows"
    for oid, (sha1, size) in rows.items():
        if sha1 != "Pending...":
            assert there[oid].stat().st_size == size, oid
            assert hashlib.sha1(there[oid].read_bytes()).hexdigest() == sha1, oid
        elif oid in there:
            assert there[oid].stat().st_size in (0, size), oid
    for oid, sha1 in said.pixels.items():
        assert rows[oid][0] == sha1, f"pixels {oid} were acknowledged"


def check_files(data: Path, db: sqlite3.Connection, said: Acknowledged) -> None:
    rows = {row[0]: row[1:] for row in db.execute("select id, hash, size from originalfile")}
    there = numbered(data / "Files")
    assert set(there) <= set(rows), "files without rows"
    for oid, (sha1, size) in rows.items():
        if size is not None:
            assert there[oid].stat().st_size == size, oid
        if sha1 is not None:
            assert hashlib.sha1(there[oid].read_bytes()).hexdigest() == sha1, oid
    for oid, sha1 in said.files.items():
        assert rows[oid][0] == sha1, f"file {oid} was acknowledged"
    for oid, count in said.tables.items():
        with closing(sqlite3.connect(f"file:{there[oid]}?mode=ro", uri=True)) as table:
            values = [row[0] for row in table.execute("select c0 from data order by row")]
        assert values == list(range(len(values))) and len(values) % 10 == 0, oid
        assert len(values) >= count, f"{count} rows of table {oid} were acknowledged"


def check_plates(db: sqlite3.Connection, said: Acknowledged) -> None:
    names = dict(db.execute("select id, name from plate").fetchall())
    found = {
        oid: (wells, sites, channels)
        for oid, wells, sites, channels in db.execute("""
        select p.id, count(distinct w.id), count(distinct s.id), count(distinct c.id) from plate p
        join well w on w.plate = p.id join wellsample s on s.well = w.id join image i on s.image = i.id
        join pixels x on x.image = i.id join channel c on c.pixels = x.id
        join logicalchannel l on c.logicalChannel = l.id group by p.id""")
    }
    for oid, name in names.items():
        wells, sites = map(int, name.split()[1:])
        assert found.get(oid) == (wells, wells * sites, 2 * wells * sites), f"plate {oid} is there by half"
    assert said.plates <= set(names), "acknowledged plates are missing"
    loose = db.execute(
        "select count(*) from image i where name != 'single' and not exists "
        "(select 1 from wellsample s where s.image = i.id)"
    ).fetchone()
    assert loose == (0,), "images of plates that are gone"


def check_over_the_wire(conn: BlitzGateway, said: Acknowledged) -> None:
    """A client gets a few of the acknowledged things as they were."""
    for oid, sha1 in random.sample(sorted(said.pixels.items()), min(10, len(said.pixels))):
        store = conn.c.sf.createRawPixelsStore()
        store.setPixelsId(oid, False, conn.SERVICE_OPTS)
        data = store.getTimepoint(0, conn.SERVICE_OPTS)
        store.close(conn.SERVICE_OPTS)
        assert hashlib.sha1(data).hexdigest() == sha1
    for oid, sha1 in random.sample(sorted(said.files.items()), min(10, len(said.files))):
        content = b"".join(conn.getObject("OriginalFile", oid).getFileInChunks())
        assert hashlib.sha1(content).hexdigest() == sha1
    for oid, count in random.sample(sorted(said.tables.items()), min(10, len(said.tables))):
        table = conn.c.sf.sharedResources().openTable(ref("OriginalFile", oid), conn.SERVICE_OPTS)
        assert table.getNumberOfRows() >= count
        table.close()


@pytest.mark.slow
def test_fifty_kills_under_eight_writing_clients(tmp_path):
    data, chance, restarts = tmp_path / "data", random.Random(SEED), []
    server = start(data)
    try:
        conn = as_root(server)
        make_users(conn)
        conn.close()
        with writers(tmp_path) as processes:
            for _ in range(KILLS):
                for number, process in enumerate(processes):
                    process.stdin.write(f"{server.port} user{number} pw\n")
                    process.stdin.flush()
                for process in processes:
                    assert process.stdout.readline() == "working\n"
                time.sleep(chance.uniform(0, 2))  # the random moment
                server.process.kill()
                for process in processes:
                    assert process.stdout.readline() == "gone\n"
                server.stop()
                began = time.perf_counter()
                server = start(data)
                restarts.append(time.perf_counter() - began)
                said = Acknowledged(tmp_path)
                check_folder(data, said)
                conn = as_root(server)
                check_over_the_wire(conn, said)
                conn.close()
    finally:
        server.stop()
    assert min(map(len, (said.plates, said.pixels, said.files, said.tables, said.deleted))) >= CLIENTS
    print(
        f"{KILLS} kills; {len(said.plates)} plates, {len(said.pixels)} pixels, {len(said.files)} files, "
        f"{len(said.tables)} tables and {len(said.deleted)} deletions were acknowledged and kept; "
        f"a start took {min(restarts):.2f} to {max(restarts):.2f} s"
    )


def seconds_to_start(data: Path) -> float:
    """The fastest of three starts, the last one of which ends by a kill."""
    fastest = 60.0
    for _ in range(3):
        began = time.perf_counter()
        server = start(data)
        fastest = min(fastest, time.perf_counter() - began)
        server.process.kill()
        server.stop()
    return fastest


@pytest.mark.slow
def test_starting_with_a_hundred_thousand_objects_is_fast(tmp_path):
    """As fast as an empty folder, give or take the noise of the machine; the seconds are printed."""
    empty = seconds_to_start(tmp_path / "empty")
    with start(tmp_path / "data") as server:
        conn = as_root(server)
        conn.SERVICE_OPTS.setOmeroGroup("0")
        update = conn.getUpdateService()
        for _ in range(10):
            update.saveArray([new("Dataset", name=f"dataset {number}") for number in range(10_000)], conn.SERVICE_OPTS)
        conn.close()
    full = seconds_to_start(tmp_path / "data")
    print(f"a start took {full:.2f} s with 100,000 objects, {empty:.2f} s with none")
    assert full < 2 * empty
    with start(tmp_path / "data") as server:
        conn = as_root(server)
        count = conn.getQueryService().projection("select count(d) from Dataset d", None, conn.SERVICE_OPTS)
        assert count[0][0].val == 100_000
        conn.close()
