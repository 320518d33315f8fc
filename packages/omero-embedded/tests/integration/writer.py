"""A client that saves and deletes without end, and writes down what the server has acknowledged.

`python writer.py JOURNAL SEED`; each line on stdin is "port user password". It works there until the server is gone,
says "working" after its first acknowledged save and "gone" at the end. The journal has a JSON list a line: what was
acknowledged, and, beforehand, ["begins", ...] where a call changes what was acknowledged earlier.
"""

import hashlib
import json
import logging
import random
import sys

import Ice
import numpy as np
import omero
import omero.clients
import omero.gateway
import omero.grid
from models import image, new, plate, ref

ROWS = 10
CHUNK = 20_000


class Writer:
    """One client's work on one run of the server."""

    def __init__(self, conn, journal, chance: random.Random):
        self.conn, self.journal, self.chance = conn, journal, chance
        self.made: list[tuple[str, int]] = []
        self.update = conn.getUpdateService()
        self.hasher = conn.getQueryService().findByString("ChecksumAlgorithm", "value", "SHA1-160")

    def note(self, *what) -> None:
        self.journal.write(json.dumps(what) + "\n")
        self.journal.flush()

    def graph(self) -> None:
        wells, sites = self.chance.randint(1, 4), self.chance.randint(1, 3)
        made = plate(f"plate {wells} {sites}", wells, sites)
        oid = self.update.saveAndReturnObject(made).id.val
        self.note("plate", oid)
        self.made.append(("Plate", oid))

    def pixels(self) -> None:
        saved = self.update.saveAndReturnObject(image("single"))
        oid = saved.getPixels(0).id.val
        data = np.random.default_rng(self.chance.randrange(1 << 30)).bytes(2 * 3 * 2 * 2)
        store = self.conn.c.sf.createRawPixelsStore()
        store.setPixelsId(oid, False)
        for c in range(2):
            store.setPlane(data[c * 12 : c * 12 + 12], 0, c, 0)
        store.save()
        self.note("pixels", oid, hashlib.sha1(data).hexdigest())
        if self.chance.random() < 0.3:  # goes on after the save
            self.note("begins", "pixels", oid)
            store.setPlane(bytes(12), 0, 1, 0)
        store.close()
        self.made.append(("Image", saved.id.val))
        self.note("image", saved.id.val, oid)

    def file(self) -> None:
        made = self.update.saveAndReturnObject(new("OriginalFile", name="file", path="/", hasher=self.hasher))
        store = self.conn.c.sf.createRawFileStore()
        store.setFileId(made.id.val)
        for _ in range(self.chance.randint(1, 2)):
            data = np.random.default_rng(self.chance.randrange(1 << 30)).bytes(self.chance.randint(1, 5) * CHUNK)
            self.note("begins", "file", made.id.val)
            for start in range(0, len(data), CHUNK):
                store.write(data[start : start + CHUNK], start, CHUNK)
            store.truncate(len(data))
            store.save()
            self.note("file", made.id.val, hashlib.sha1(data).hexdigest())
        store.close()
        self.made.append(("OriginalFile", made.id.val))

    def table(self) -> None:
        table = self.conn.c.sf.sharedResources().newTable(0, "table")
        table.initialize([omero.grid.LongColumn("number", "", [])])
        oid = table.getOriginalFile().id.val
        for number in range(self.chance.randint(1, 4)):
            table.addData([omero.grid.LongColumn("number", "", list(range(number * ROWS, number * ROWS + ROWS)))])
            self.note("table", oid, (number + 1) * ROWS)
        table.close()
        self.made.append(("OriginalFile", oid))

    def delete(self) -> None:
        if not self.made:
            return
        kind, oid = self.made.pop(self.chance.randrange(len(self.made)))
        self.note("begins", "delete", kind, oid)
        if self.chance.random() < 0.5 and kind == "OriginalFile":
            self.update.deleteObject(ref(kind, oid))
        else:
            self.conn.deleteObjects(kind, [oid], deleteChildren=True, deleteAnns=True, wait=True)
        self.note("deleted", kind, oid)

    def work(self) -> None:
        """One random thing."""
        self.chance.choice((self.graph, self.pixels, self.file, self.table, self.delete))()


def main() -> None:
    logging.disable()  # the gateway tells of every call that failed
    chance = random.Random(int(sys.argv[2]))
    with open(sys.argv[1], "a") as journal:
        for line in sys.stdin:
            port, user, password = line.split()
            conn = omero.gateway.BlitzGateway(user, password, host="127.0.0.1", port=int(port), secure=True)
            assert conn.connect()
            try:
                writer = Writer(conn, journal, chance)
                writer.graph()
                print("working", flush=True)
                while True:
                    writer.work()
            except (Ice.LocalException, Ice.ObjectNotExistException):
                print("gone", flush=True)


main()
