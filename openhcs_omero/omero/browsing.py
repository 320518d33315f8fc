"""What there is on a server: screens with their plates, and who derived which plate from which."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from omero.gateway import BlitzGateway

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.omero.marks import derived_marks


@dataclass(frozen=True)
class ListedPlate:
    """A plate in a list; `derived` is its other name, such as plate_7_processed, if it is a derived plate."""

    plate_id: int
    name: str
    derived: str | None


@dataclass(frozen=True)
class ListedScreen:
    """A screen with its plates. `screen_id` is None for the plates that are in no screen."""

    screen_id: int | None
    name: str
    plates: tuple[ListedPlate, ...]


def list_screens(conn: BlitzGateway) -> list[ListedScreen]:
    """List all screens and plates that the user may see, in three calls; plates in no screen come last."""
    found: dict[int, tuple[str, list[ListedPlate]]] = {}
    for screen_id, name in queries.rows(conn, "select s.id, s.name from Screen s order by s.id"):
        found[screen_id] = name or "", []
    loose: list[ListedPlate] = []
    derived = derived_marks(conn)
    for plate_id, name, screen_id in queries.rows(
        conn,
        "select p.id, p.name, s.id from Plate p left outer join p.screenLinks l left outer join l.parent s "
        "order by p.id, s.id",
    ):
        plate = ListedPlate(plate_id, name or "", derived.get(plate_id))
        found.get(screen_id, ("", loose))[1].append(plate)
    screens = [ListedScreen(screen_id, name, tuple(plates)) for screen_id, (name, plates) in found.items()]
    return screens + ([ListedScreen(None, "", tuple(loose))] if loose else [])


def list_screen(conn: BlitzGateway, screen_id: int) -> ListedScreen:
    """List the plates of a screen, in a constant number of calls.

    Raises
    ------
    PlateError
        If there is no such screen, or this user may not see it.
    """
    names = queries.rows(conn, "select s.name, s.id from Screen s where s.id = :id", id=screen_id)
    if not names:
        raise PlateError(f"there is no screen {screen_id}, or this user may not see it")
    plates = queries.rows(
        conn,
        "select distinct p.id, p.name from ScreenPlateLink l join l.child p where l.parent.id = :id order by p.id",
        id=screen_id,
    )
    derived = derived_marks(conn)
    return ListedScreen(
        screen_id,
        names[0][0] or "",
        tuple(ListedPlate(plate, name or "", derived.get(plate)) for plate, name in plates),
    )


def plates_of_screen(conn: BlitzGateway, screen: int | str) -> list[ListedPlate]:
    """The plates of a screen, given by its id or name, without derived plates.

    Raises
    ------
    PlateError
        If there is no such screen, or there are several of that name.
    """
    if isinstance(screen, str):
        found = [row[0] for row in queries.rows(conn, "select s.id from Screen s where s.name = :name", name=screen)]
        if not found:
            raise PlateError(f"there is no screen named {screen!r}, or this user may not see it")
        if len(found) > 1:
            raise PlateError(
                f"there are {len(found)} screens named {screen!r}: choose one by its id, {', '.join(map(str, found))}"
            )
        return plates_of_screen(conn, found[0])
    return [plate for plate in list_screen(conn, screen).plates if plate.derived is None]


def tagged_plates(conn: BlitzGateway, tag: str) -> list[ListedPlate]:
    """The plates with a tag, given by its text, without derived plates.

    Raises
    ------
    PlateError
        If there is no such tag.
    """
    if not queries.rows(conn, "select a.id from TagAnnotation a where a.textValue = :text", text=tag):
        raise PlateError(f"there is no tag {tag!r}, or this user may not see it")
    found = queries.rows(
        conn,
        "select distinct p.id, p.name from PlateAnnotationLink l join l.parent p where l.child.id in "
        "(select a.id from TagAnnotation a where a.textValue = :text) order by p.id",
        text=tag,
    )
    return _sources(conn, found)


def named_plates(conn: BlitzGateway, pattern: str) -> list[ListedPlate]:
    """The plates whose name fits a pattern with ``*``, ``?`` and ``[...]``, without derived plates."""
    start = re.split(r"[*?\[%_\\]", pattern)[0]
    found = queries.rows(
        conn, "select p.id, p.name from Plate p where p.name like :start order by p.id", start=f"{start}%"
    )
    return _sources(conn, [(plate, name) for plate, name in found if fnmatch.fnmatchcase(name, pattern)])


def _sources(conn: BlitzGateway, found: Iterable[Sequence[Any]]) -> list[ListedPlate]:
    derived = derived_marks(conn)
    return [ListedPlate(plate, name or "", None) for plate, name in found if plate not in derived]


def as_lines(screens: list[ListedScreen]) -> Iterator[str]:
    """Lines to print: screens, with their plates indented."""
    if not screens:
        yield "there are no screens and no plates that this user may see"
    for screen in screens:
        yield "no screen" if screen.screen_id is None else f"/omero/screen_{screen.screen_id}  {_line(screen.name)}"
        width = max((len(str(plate.plate_id)) for plate in screen.plates), default=0)
        for plate in screen.plates:
            also = f"  (/omero/{plate.derived})" if plate.derived else ""
            yield f"  /omero/plate_{plate.plate_id:<{width}}  {_line(plate.name)}{also}"


def _line(name: str) -> str:
    """A name on one line, without anything that a terminal would act on."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split()) or "(no name)"
