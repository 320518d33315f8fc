"""Derived screens: each gathers the plates that were derived from the plates of one screen for one output.

Like a derived plate, a derived screen is found by its map annotation and never by its name, which is that of the source
screen followed by the output: "Assay A [processed]".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import omero
from omero.gateway import BlitzGateway
from omero.model import PlateI, ScreenI, ScreenPlateLinkI
from omero.rtypes import rstring

from openhcs_omero.errors import PlateError, RightsError
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import save_text
from openhcs_omero.omero.attachments import delete_attachments, list_attachments
from openhcs_omero.omero.marks import NAMESPACE, SCREEN_MARK, marked
from openhcs_omero.omero.writing import map_annotation
from openhcs_omero.plates.structure import PlateStructure


@dataclass(frozen=True)
class DerivedScreen:
    """A screen of derived plates.

    Parameters
    ----------
    screen_id, group_id
        The screen and its group.
    source_id
        The screen that the source plates are in.
    """

    screen_id: int
    group_id: int
    source_id: int


def gather_plate(conn: BlitzGateway, derived_id: int, source: PlateStructure, output: str) -> None:
    """Put a derived plate into the derived screen of each screen that its source plate is in.

    A missing derived screen is created in the group of the source plate. If several processes create it at the same
    time, the oldest one stays and receives the plates of the others.

    Raises
    ------
    PlateError
        If other processes keep deleting the screen.
    """
    screens = queries.rows(
        conn,
        "select distinct s.id, s.name from ScreenPlateLink l join l.parent s where l.child.id = :plate order by s.id",
        plate=source.plate_id,
    )
    for screen_id, name in screens:
        _gather(conn, derived_id, source.group_id, screen_id, f"{name} [{output}]", output)


def derived_screens(conn: BlitzGateway, derived_ids: Sequence[int]) -> list[DerivedScreen]:
    """This user's derived screens that contain any of the derived plates, ordered by id; one call per 10,000 plates."""
    found = [
        row
        for ids in queries.pages(derived_ids)
        for row in queries.rows(
            conn,
            "select distinct s.id, s.details.group.id, mv.value from ScreenAnnotationLink l join l.parent s, "
            "MapAnnotation a join a.mapValue mv where l.child.id = a.id and a.ns = :ns and mv.name = 'source_screen' "
            "and s.details.owner.id = :me "
            "and s.id in (select p.parent.id from ScreenPlateLink p where p.child.id in (:ids)) order by s.id",
            ns=NAMESPACE,
            me=conn.getUserId(),
            ids=ids,
        )
    ]
    return sorted(
        {DerivedScreen(screen, group, int(source)) for screen, group, source in found},
        key=lambda screen: screen.screen_id,
    )


def delete_screens(conn: BlitzGateway, plate_ids: Collection[int], output: str) -> None:
    """Delete the derived screens of derived plates that are about to be deleted, unless they have other plates.

    The files on their source screens are deleted first, so that a killed process leaves nothing that can't be found.
    """
    screens = derived_screens(conn, sorted(plate_ids))
    kept = {
        screen for screen, plate in _linked(conn, [one.screen_id for one in screens]) if plate not in set(plate_ids)
    }
    for screen in screens:
        if screen.screen_id not in kept:
            delete_attachments(conn, list_attachments(conn, screen.source_id, output, "Screen"))
            queries.delete_existing(conn, screen.group_id, "Screen", [screen.screen_id])


def attach_to_screens(
    conn: BlitzGateway, screens: Collection[DerivedScreen], output: str, file: Path
) -> dict[str, str | None]:
    """Attach a file to derived screens, and to the screens that their source plates are in.

    On a source screen, the name of the file starts with that of the output. If the user may not annotate a source
    screen, it is left out, with a sentence on stdout. An empty file is not attached, and replaces an attached version.

    Returns
    -------
    dict
        The SHA-1 of what is attached now, by id of the screen.
    """
    targets = {screen.source_id: (f"{output}_{file.name}", f"{NAMESPACE}/{output}") for screen in screens}
    targets |= {screen.screen_id: (file.name, NAMESPACE) for screen in screens}
    groups = {number: screen.group_id for screen in screens for number in (screen.source_id, screen.screen_id)}
    for screen_id, (name, namespace) in targets.items():
        try:
            if file.stat().st_size:
                save_text(conn, "Screen", screen_id, name, file, namespace)
                continue
        except RightsError as error:
            print(f"{file.name} is not attached to screen {screen_id}: {error}")
        earlier = [row[0] for row in _files(conn, [screen_id], output, file.name)]
        queries.delete_existing(conn, groups[screen_id], "FileAnnotation", earlier)
    return attached_to_screens(conn, list(targets), output, file.name)


def attached_to_screens(conn: BlitzGateway, screen_ids: Sequence[int], output: str, name: str) -> dict[str, str | None]:
    """The SHA-1 of the file that `attach_to_screens` attached, by id of the screen."""
    return {str(screen): sha1 for _, screen, sha1 in _files(conn, screen_ids, output, name)}


def _files(conn: BlitzGateway, screen_ids: Sequence[int], output: str, name: str) -> list[list[Any]]:
    """[annotation, screen, SHA-1] of this user's files, oldest first."""
    if not screen_ids:
        return []
    return queries.rows(
        conn,
        "select a.id, l.parent.id, f.hash from ScreenAnnotationLink l, FileAnnotation a join a.file f "
        "where l.child.id = a.id and l.parent.id in (:ids) and a.details.owner.id = :me and "
        "(a.ns = :derived and f.name = :name or a.ns = :source and f.name = :prefixed) order by a.id",
        ids=list(screen_ids),
        me=conn.getUserId(),
        derived=NAMESPACE,
        name=name,
        source=f"{NAMESPACE}/{output}",
        prefixed=f"{output}_{name}",
    )


def _gather(conn: BlitzGateway, derived_id: int, group_id: int, source_id: int, name: str, output: str) -> None:
    options = queries.context(conn, group_id)
    mark = f"screen_{source_id}_{output}"
    for _ in range(queries.ATTEMPTS):
        screens = _own(conn, group_id, mark)
        if not screens:
            queries.update(conn).saveObject(_new_screen(source_id, name, output, mark), options)
            screens = _own(conn, group_id, mark)
        linked = _linked(conn, screens)
        there = {plate for screen, plate in linked if screen == screens[0]}
        lacking = {derived_id, *(plate for _, plate in linked)} - there
        try:
            queries.update(conn).saveArray([_link(screens[0], plate) for plate in sorted(lacking)], options)
            queries.delete(conn, group_id, Screen=screens[1:])
        except (omero.ValidationException, queries.DeletionRefused):  # another process did the same
            continue
        if _own(conn, group_id, mark) == screens[:1]:
            return
    raise PlateError(f"other processes keep making or deleting the screen {name!r}: start the run again when they end")


def _own(conn: BlitzGateway, group_id: int, mark: str) -> list[int]:
    """Ids of this user's screens with a mark in a group, oldest first."""
    here = (conn.getUserId(), group_id)
    return [screen for screen, *where in marked(conn, "Screen", SCREEN_MARK, mark) if tuple(where) == here]


def _linked(conn: BlitzGateway, screens: Sequence[int]) -> list[list[int]]:
    """[screen, plate] of all plates in some screens."""
    if not screens:
        return []
    return queries.rows(
        conn,
        "select distinct l.parent.id, l.child.id from ScreenPlateLink l where l.parent.id in (:ids)",
        ids=list(screens),
    )


def _new_screen(source_id: int, name: str, output: str, mark: str) -> ScreenI:
    screen = ScreenI()
    screen.name = rstring(name)
    pairs = [(SCREEN_MARK, mark), ("source_screen", str(source_id)), ("output", output)]
    screen.linkAnnotation(map_annotation(NAMESPACE, pairs))
    return screen


def _link(screen_id: int, plate_id: int) -> ScreenPlateLinkI:
    link = ScreenPlateLinkI()
    link.parent, link.child = ScreenI(screen_id, False), PlateI(plate_id, False)
    return link
