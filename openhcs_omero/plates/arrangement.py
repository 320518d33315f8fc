"""Find out which file holds which plane of a plate, what is missing, and what replaces it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import Literal

from openhcs_omero.errors import PlateError, first_of
from openhcs_omero.plates.paths import parse_well, well_name

Incomplete = Literal["error", "skip", "fill"]
Plane = tuple[int, int, int]  # t, c, z, from 0
Place = tuple[str, int]  # well and site
AXES = ("t", "c", "z")
MOST_PLANES, MOST_MISSING = 10**6, 100  # limits of a real plate: planes per site, and missing planes per file
_WORDS = {"t": "timepoint", "c": "channel", "z": "plane", "site": "site"}


@dataclass(frozen=True)
class PlaneFile:
    """A plane with the microscope's numbers.

    `path` is the file's path for the backend that reads it; None if the metadata list the plane but there is no file.
    """

    well: str
    site: int
    t: int
    c: int
    z: int
    path: str | None


@dataclass(frozen=True)
class Announced:
    """The microscope's numbers of sites, timepoints, channels and z planes that the metadata announce; empty if none.

    `source` names the metadata, for messages. `every_site` means that the metadata list every existing site, so a well
    may have site 2 without site 1.
    """

    site: tuple[int, ...] = ()
    t: tuple[int, ...] = ()
    c: tuple[int, ...] = ()
    z: tuple[int, ...] = ()
    source: str = "metadata"
    every_site: bool = False

    @classmethod
    def by_names(cls, planes: list[PlaneFile], axes: str = "tz") -> Announced:
        """What the names of a microscope's files announce, without other metadata: it leaves out no number."""
        values = {axis: sorted({getattr(plane, axis) for plane in planes}) for axis in axes}
        spans = {axis: tuple(range(found[0], found[-1] + 1)) for axis, found in values.items() if _close(found)}
        t, c, z = (spans.get(axis, ()) for axis in AXES)
        return cls(t=t, c=c, z=z, source="numbering of the files")

    def without(self, axes: Iterable[str]) -> Announced:
        """The same, but for these of t, c and z."""
        t, c, z = (() if axis in axes else getattr(self, axis) for axis in AXES)
        return replace(self, t=t, c=c, z=z)


def _close(values: list[int]) -> bool:
    """Whether numbers may be those of one plate: a name can have any number."""
    return bool(values) and values[-1] - values[0] < MOST_PLANES


@dataclass(frozen=True)
class Arrangement:
    """The planes of a plate, counted without gaps: sites from 1; t, c and z from 0.

    Parameters
    ----------
    files
        The path of each file, by (well, site) and (t, c, z). A plane that stands for a whole stack is listed several
        times.
    sizes
        The number of timepoints, channels and z planes.
    channels
        The microscope's numbers of the channels.
    sites
        The microscope's numbers of the sites.
    filled
        The planes that were not acquired: black planes, which have no file, and repeated planes.
    missing
        A description of what is missing, for each incomplete well.
    notes
        Sentences about what was filled and skipped.
    skipped
        The sites that were left out, by well.
    skipped_planes
        The timepoints, channels and z planes that were left out because no site has them.
    shapes
        The numbers of timepoints, channels and z planes of sites that have others than the plate.
    """

    files: Mapping[Place, Mapping[Plane, str]]
    sizes: tuple[int, int, int]
    channels: tuple[int, ...]
    sites: tuple[int, ...]
    filled: Mapping[Place, frozenset[Plane]] = field(default_factory=dict)
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    skipped_planes: tuple[str, ...] = ()
    shapes: Mapping[Place, tuple[int, int, int]] = field(default_factory=dict)


def merge(parts: Sequence[Arrangement]) -> Arrangement:
    """One arrangement of sites that were arranged by kind; the part with most channels says which these are."""
    widest = max(parts, key=lambda part: len(part.channels))
    missing: dict[str, tuple[str, ...]] = {}
    skipped: dict[str, tuple[int, ...]] = {}
    for part in parts:
        for well, lacks in part.missing.items():
            missing[well] = (*missing.get(well, ()), *lacks)
        for well, sites in part.skipped.items():
            skipped[well] = tuple(sorted((*skipped.get(well, ()), *sites)))
    return replace(
        widest,
        files={place: planes for part in parts for place, planes in part.files.items()},
        filled={place: planes for part in parts for place, planes in part.filled.items()},
        missing=missing,
        notes=tuple(note for part in parts for note in part.notes),
        skipped=skipped,
        skipped_planes=tuple(dict.fromkeys(lost for part in parts for lost in part.skipped_planes)),
        shapes={place: part.sizes for part in parts for place in part.files},
    )


def arrange(
    planes: Iterable[PlaneFile], announced: Announced = Announced(), incomplete: Incomplete = "error"
) -> Arrangement:
    """Arrange planes by well, site, timepoint, channel and z.

    If a channel has fewer timepoints or z planes than others in the whole plate, it is assumed to be acquired that way:
    a single plane is repeated over the stack, and all others are filled with black planes. A plane is missing if a site
    lacks it although the same channel has it at other sites, or although it is announced; and also if two files are the
    same plane, since one of them must be wrong.

    Parameters
    ----------
    planes
        The planes, with the microscope's numbers.
    announced
        What the metadata announce.
    incomplete
        What to do about missing planes. "error" keeps what there is and records what is missing. "skip" leaves out
        incomplete sites, and also timepoints, channels and z planes that no site has. "fill" puts in black planes.

    Raises
    ------
    PlateError
        If far more is announced than there is, or if each plane has two files.
    """
    planes = list(planes)
    grid = _Grid.of(planes, announced, incomplete)
    sites, clashes = _place(planes, grid)
    lacks = {place: grid.expected - set(sites.get(place, ())) for place in [*sites, *_absent_sites(sites, grid)]}
    lacks = {place: lacks[place] for place in sorted(lacks, key=_order) if lacks[place]}
    missing, notes = _tell(grid, sites, lacks, clashes)
    skipped: dict[str, tuple[int, ...]] = {}
    if incomplete == "skip":
        for well, site in lacks:
            skipped[well] = (*skipped.get(well, ()), site)
        sites = {place: found for place, found in sites.items() if place not in lacks}
    files: dict[Place, dict[Plane, str]] = {}
    filled: dict[Place, frozenset[Plane]] = {}
    for place in sorted({*sites, *(lacks if incomplete == "fill" else ())}, key=_order):
        found = sites.get(place, {})
        files[place] = dict(sorted((found | grid.repeated(found)).items()))
        unknown = lacks.get(place, set()) if incomplete == "error" else set()
        if not_acquired := frozenset(grid.full - set(found) - unknown):
            filled[place] = not_acquired
    channels, numbers = tuple(grid.values["c"]), tuple(grid.values["site"])
    nowhere = tuple(grid.lost()) if incomplete == "skip" else ()
    return Arrangement(files, grid.sizes, channels, numbers, filled, missing, tuple(notes), skipped, nowhere)


def _tell(
    grid: _Grid, sites: Mapping[Place, object], lacks: Mapping[Place, set[Plane]], clashes: Mapping[Place, str]
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Describe what is missing, by well, and what is done about it."""
    missing: dict[str, tuple[str, ...]] = {}
    notes = list(grid.notes())
    for lost in grid.lost():
        words = f"all files of {lost}, which the {grid.announced.source} announces"
        if grid.incomplete == "error":
            missing |= {well: (*missing.get(well, ()), words) for well, _ in sites}
        else:
            notes.append(f"the plate lacks {words}: {_DONE[grid.incomplete]}")
    for (well, site), gone in lacks.items():
        if not gone <= grid.nowhere:
            words = f"files of site {grid.values['site'][site - 1]}: {grid.describe(gone)}"
            if clash := clashes.get((well, site)):
                words += f" ({clash})"
            if grid.incomplete == "error":
                missing[well] = (*missing.get(well, ()), words)
            else:
                notes.append(f"well {well} lacks {words}; {_DONE[grid.incomplete]}")
    return missing, notes


_DONE = {"skip": "left out", "fill": "filled with black planes"}


def _order(place: Place) -> tuple[tuple[int, int], int]:
    return parse_well(place[0]), place[1]


def _place(planes: Iterable[PlaneFile], grid: _Grid) -> tuple[dict[Place, dict[Plane, str]], dict[Place, str]]:
    """Files by (well, site) and (t, c, z), and what is wrong with sites of which two files are the same plane.

    A site that only the metadata list is included without files. Planes with two files are left out.
    """
    sites: dict[Place, dict[Plane, str]] = {}
    taken: dict[str, tuple[Place, Plane]] = {}
    clashes: dict[Place, dict[Plane, str]] = {}
    for plane in planes:
        place = _well(plane), 1 + grid.ranks["site"][plane.site]
        found = sites.setdefault(place, {})
        if plane.path is None:
            continue
        index = (grid.ranks["t"][plane.t], grid.ranks["c"][plane.c], grid.ranks["z"][plane.z])
        if found.setdefault(index, plane.path) != plane.path:
            words = f"{found[index]} and {plane.path} are the same plane of the same site"
            clashes.setdefault(place, {}).setdefault(index, words)
        other = taken.setdefault(plane.path, (place, index))
        if other != (place, index):
            one, two = (f"{well} site {grid.values['site'][rank - 1]}" for well, rank in (other[0], place))
            words = f"{plane.path} is listed as two planes, one of {one} and one of {two}: one must be wrong"
            for there, at in (other, (place, index)):
                clashes.setdefault(there, {}).setdefault(at, words)
    for place, doubtful in clashes.items():
        sites[place] = {index: path for index, path in sites[place].items() if index not in doubtful}
    said = {place: next(iter(doubtful.values())) for place, doubtful in clashes.items()}
    if said and not any(sites.values()):
        raise PlateError(next(iter(said.values())))
    return sites, said


def _well(plane: PlaneFile) -> str:
    """The name of a plane's well as this software writes it."""
    try:
        return well_name(*parse_well(plane.well))
    except ValueError as error:
        raise PlateError(f"{plane.path or 'the metadata'}: {error}") from None


def _absent_sites(sites: Mapping[Place, object], grid: _Grid) -> list[Place]:
    """Missing sites that their wells should have: those that are announced, or those before the last site."""
    if grid.announced.every_site:
        return []
    last: dict[str, int] = {}
    for well, site in sites:
        last[well] = max(site, last.get(well, 0))
    return [
        (well, site)
        for well, most in last.items()
        for site in range(1, 1 + max(most, len(grid.announced.site)))
        if (well, site) not in sites
    ]


@dataclass(frozen=True)
class _Grid:
    """The sorted values of all axes, the values that no file has, and the planes (t, z) of each channel."""

    values: Mapping[str, list[int]]
    absent: Mapping[str, list[int]]
    patterns: Mapping[int, set[tuple[int, int]]]
    announced: Announced
    incomplete: Incomplete

    @classmethod
    def of(cls, planes: list[PlaneFile], announced: Announced, incomplete: Incomplete) -> _Grid:
        listed = {axis: {getattr(plane, axis) for plane in planes} for axis in ("site", *AXES)}
        there = {axis: {getattr(plane, axis) for plane in planes if plane.path is not None} for axis in AXES}
        values = {axis: sorted(found | set(getattr(announced, axis))) for axis, found in listed.items()}
        absent = {axis: [value for value in values[axis] if value not in there[axis]] for axis in AXES}
        if incomplete == "skip":
            values |= {axis: [value for value in values[axis] if value in there[axis]] for axis in AXES}
        grid = cls(values, absent, {c: set() for c in range(len(values["c"]))}, announced, incomplete)
        sites = len({(plane.well, plane.site) for plane in planes})
        if prod(grid.sizes) > MOST_PLANES or sites * prod(grid.sizes) > MOST_PLANES + MOST_MISSING * len(planes):
            t, c, z = grid.sizes
            raise PlateError(
                f"the {announced.source} announces {t} timepoints, {c} channels and {z} planes, but there "
                f"are only {len(planes)} files of {sites} sites: does it belong to this plate?"
            )
        for plane in planes:
            if all(getattr(plane, axis) in grid.ranks[axis] for axis in AXES):
                t, c, z = (grid.ranks[axis][getattr(plane, axis)] for axis in AXES)
                grid.patterns[c].add((t, z))
        grid._expect_absent()
        return grid

    def _expect_absent(self) -> None:
        """Add to the channels' patterns what the metadata announce but no site has."""
        gone = {
            axis: {self.ranks[axis][value] for value in found if value in self.ranks[axis]}
            for axis, found in self.absent.items()
        }
        depths = {c: len({z for _, z in pattern}) for c, pattern in self.patterns.items()}
        for c, pattern in self.patterns.items():
            flat = depths[c] == 1 < max(depths.values())  # a single plane where other channels have stacks
            pattern |= {
                (t, z)
                for t, z in product(range(self.sizes[0]), range(self.sizes[2]))
                if c in gone["c"] or t in gone["t"] or (z in gone["z"] and not flat)
            }

    @cached_property
    def ranks(self) -> dict[str, dict[int, int]]:
        """The position of each value on its axis, from 0."""
        return {axis: {value: rank for rank, value in enumerate(values)} for axis, values in self.values.items()}

    @property
    def sizes(self) -> tuple[int, int, int]:
        t, c, z = (len(self.values[axis]) for axis in AXES)
        return t, c, z

    @cached_property
    def full(self) -> set[Plane]:
        return set(product(*map(range, self.sizes)))  # type: ignore[arg-type]

    @cached_property
    def expected(self) -> set[Plane]:
        """The planes that a complete site has."""
        return {(t, c, z) for c, pattern in self.patterns.items() for t, z in pattern}

    @cached_property
    def nowhere(self) -> set[Plane]:
        """The expected planes that no site has."""
        gone = [{self.ranks[axis].get(value) for value in self.absent[axis]} for axis in AXES]
        return {plane for plane in self.expected if any(index in found for index, found in zip(plane, gone))}

    def repeated(self, found: Mapping[Plane, str]) -> dict[Plane, str]:
        """Files to repeat over a stack: the single planes of channels where other channels have stacks."""
        copies: dict[Plane, str] = {}
        for (t, c, z), path in found.items():
            if self.sizes[2] > 1 and {height for time, height in self.patterns[c] if time == t} == {z}:
                copies |= {(t, c, other): path for other in range(self.sizes[2]) if other != z}
        return copies

    def describe(self, planes: set[Plane]) -> str:
        """Describe the missing planes of a site, with the microscope's numbers."""
        if planes >= self.expected - self.nowhere:
            return "all of it"
        some = sorted(planes - self.nowhere)
        words = ", ".join(f"{_WORDS[axis]} {self.values[axis][index]}" for axis, index in zip(AXES, some[0]))
        return words + self._numbering + (f" and {len(some) - 1} more" if len(some) > 1 else "")

    @property
    def _numbering(self) -> str:
        """What to say behind the microscope's numbers, unless they are those of this software, which count from 0."""
        alike = all(values == list(range(len(values))) for axis, values in self.values.items() if axis in AXES)
        return "" if alike else " (as the files number them)"

    def lost(self) -> list[str]:
        """Describe what the metadata announce but no site has."""
        return [
            f"{_WORDS[axis]} {', '.join(map(str, gone))}{self._numbering}" for axis, gone in self.absent.items() if gone
        ]

    def notes(self) -> Iterable[str]:
        """Sentences about numbers that are not announced, and about channels that have fewer planes than others."""
        for axis, word in _WORDS.items():
            announced = getattr(self.announced, axis)
            if more := [str(value) for value in self.values[axis] if announced and value not in announced]:
                some = ", ".join(more[:4]) + (" ..." if more[4:] else "")
                yield f"the {self.announced.source} does not announce {word} {some}, of which there are files"
        sites = self.values["site"]
        if sites and not self.announced.site and sites[-1] - sites[0] >= len(sites):
            numbers = first_of([*map(str, sites)], 4)
            yield f"the sites have the numbers {numbers} in the files, and are counted from 1 here"
        for c, pattern in self.patterns.items():
            t, z = (len({place[axis] for place in pattern}) for axis in (0, 1))
            if len(pattern) < self.sizes[0] * self.sizes[2]:
                filling = [
                    *["its plane is repeated over the stack"] * (z == 1 < self.sizes[2]),
                    *["black planes take the place of the others"]
                    * (len(pattern) < t * z or z > 1 or t < self.sizes[0]),
                ]
                number = self.values["c"][c]
                in_files = "" if number == c else f" ({number} in the files)"
                yield (
                    f"channel {c}{in_files} has {t} of {self.sizes[0]} timepoints and {z} of "
                    f"{self.sizes[2]} planes of the stack: {' and '.join(filling)}"
                )
