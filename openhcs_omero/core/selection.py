"""Plates by what people call them: a screen, a tag, a pattern of names or a file with a list.

A run asks OMERO which plates these are, in a constant number of calls, and puts their ids into the configuration in
place of the entries. It records both in `plates.json`, where its jobs find them.
"""

from __future__ import annotations

import fnmatch
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.core.inspection import connect_head
from openhcs_omero.core.records import read_record
from openhcs_omero.errors import ConfigError, brief, first_of
from openhcs_omero.io.atomic import write_if_changed
from openhcs_omero.plates.paths import plate_of

if TYPE_CHECKING:
    from openhcs_omero.omero.connection import BlitzGateway

NAME = "plates.json"
LARGEST_LIST = 2_000_000  # bytes
KINDS = ("path", "screen", "tag", "name", "file")
SHOWN = 10  # plates per entry

Entry = int | str | Mapping[str, Any]


@dataclass(frozen=True)
class Selected:
    """A plate that an entry stands for: its id or path, and its name if OMERO was asked for it."""

    path: int | str
    name: str = ""


@dataclass(frozen=True)
class _Record:
    """What a run was asked for, and the plates that it took."""

    asked: list[Any]
    plates: list[Any]


def selects(config: Mapping[str, Any]) -> bool:
    """Whether entries of `plates` stand for plates that must be looked up first."""
    return any(isinstance(entry, Mapping) and "path" not in entry for entry in config["plates"])


def select_plates(
    config: MutableMapping[str, Any], connect: Callable[[], BlitzGateway], say: Callable[[str], None]
) -> list[Entry]:
    """Replace the entries of `plates` by the plates that they stand for, and return the entries.

    Parameters
    ----------
    config
        A configuration that fits the schema.
    connect
        Opens a connection to OMERO; called once, if an entry needs it.
    say
        Called with a sentence about each entry that was looked up.

    Raises
    ------
    ConfigError
        If an entry stands for nothing or for several screens, or two entries for one plate.
    """
    asked: list[Entry] = list(config["plates"])
    connection: list[BlitzGateway] = []

    def server() -> BlitzGateway:
        if not connection:
            connection.append(connect())
        return connection[0]

    plates: list[Entry] = []
    known: dict[str, Entry] = {}
    for entry in asked:
        for selected, options in _plates_of(entry, server, say):
            place = str(plate_of(selected.path) or selected.path)
            if place in known:
                raise ConfigError(
                    f"plates: {_named(selected)} is among {brief(known[place])} and among {brief(entry)}: "
                    "each plate may be named once, so leave it out of one of them with `except`"
                )
            known[place] = entry
            plates.append({"path": selected.path, **options} if options else selected.path)
    config["plates"] = plates
    return asked


def choose_plates(config: MutableMapping[str, Any]) -> list[Entry]:
    """Do the same with the server of the configuration, and print the sentences."""

    def connect() -> BlitzGateway:
        from openhcs_omero.omero.server import Server

        return connect_head(Server.from_config(config.get("omero")))

    def say(sentence: str) -> None:
        print(sentence, file=sys.stderr)  # stdout may carry the graph of `snakemake --dag`

    return select_plates(config, connect, say)


def record_plates(results: Path, asked: Sequence[Entry], plates: Sequence[Entry]) -> None:
    """Record which plates a run takes, for its jobs and for people."""
    write_if_changed(results / NAME, json.dumps({"asked": list(asked), "plates": list(plates)}, indent=1))


def recall_plates(config: MutableMapping[str, Any]) -> bool:
    """Replace the entries of `plates` by the plates that the last run took for them; whether that is known."""
    record = read_record(Path(config.get("results", "results")) / NAME, _Record)
    if record is None or record.asked != config["plates"]:
        return False
    config["plates"] = record.plates
    return True


def _plates_of(
    entry: Entry, server: Callable[[], BlitzGateway], say: Callable[[str], None]
) -> Iterator[tuple[Selected, dict[str, Any]]]:
    """Yield the plates that an entry stands for, each with its other keys."""
    if not isinstance(entry, Mapping):
        yield Selected(entry), {}
        return
    kinds = [kind for kind in KINDS if kind in entry]
    if len(kinds) != 1:
        raise ConfigError(f"plates has the entry {brief(entry)}, which must have one of the keys {', '.join(KINDS)}")
    options = {key: value for key, value in entry.items() if key not in (*KINDS, "except")}
    if kinds == ["path"]:
        if "except" in entry:
            raise ConfigError(f"plates has the entry {brief(entry)}: a single plate has no `except`")
        yield Selected(entry["path"]), options
        return
    if kinds == ["file"]:
        found = _listed(Path(entry["file"]).expanduser())
    else:
        from openhcs_omero.omero import browsing  # runs over folders need no OMERO

        find = {"screen": browsing.plates_of_screen, "tag": browsing.tagged_plates, "name": browsing.named_plates}
        found = [Selected(plate.plate_id, plate.name) for plate in find[kinds[0]](server(), entry[kinds[0]])]
    kept = [plate for plate in found if not any(_is(plate, other) for other in entry.get("except", ()))]
    if not kept:
        raise ConfigError(f"plates: {brief(entry)} stands for no plate" + (" after `except`" if found else ""))
    say(f"{brief(entry)} is {len(kept)} plate{'s' if len(kept) > 1 else ''}: {first_of([*map(_named, kept)], SHOWN)}")
    for plate in kept:
        yield plate, options


def _listed(file: Path) -> list[Selected]:
    """Read a file with an id, a path or an address per line; what follows a # is a comment."""
    if file.exists() and not (file.is_file() and file.stat().st_size <= LARGEST_LIST):
        raise ConfigError(f"plates: {file} is no regular file, or larger than {LARGEST_LIST // 10**6} MB")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"plates: the file {file} can't be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    entries = [line.partition("#")[0].strip() for line in lines]
    return [Selected(int(entry) if re.fullmatch(r"[0-9]{1,18}", entry) else entry) for entry in entries if entry]


def _is(plate: Selected, other: int | str) -> bool:
    """Whether an entry of `except`, which is an id, a path or a pattern of names, means the plate."""
    return str(plate_of(plate.path) or plate.path) == str(plate_of(other) or other) or (
        isinstance(other, str) and bool(plate.name) and fnmatch.fnmatchcase(plate.name, other)
    )


def _named(plate: Selected) -> str:
    return f"plate {plate.path} ({plate.name})" if plate.name else f"plate {plate.path}"
