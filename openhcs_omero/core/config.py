"""The configuration as plain dataclasses; config_check.py checks it before."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.core.command import Command, read_command
from openhcs_omero.core.needs import NO_NEEDS, Needs
from openhcs_omero.errors import ConfigError
from openhcs_omero.io.base import BadData, on_disk
from openhcs_omero.plates.arrangement import Incomplete
from openhcs_omero.plates.labels import DERIVED_MASKS, RoiOptions
from openhcs_omero.plates.paths import S3, in_s3, plate_of

if TYPE_CHECKING:
    from openhcs_omero.omero.server import Server


IN_OMERO = "omero"  # as `plate_map`: what OMERO says about the wells
SCRATCH_GB = 100  # the default


@dataclass(frozen=True)
class Step:
    """One entry of the configuration's `steps`.

    Parameters
    ----------
    position
        Position in the list, starting at 1.
    call
        "module:function"; for a command, the name of its program.
    name
        Prefix for the keys of the step's results; None for no prefix.
    channels
        The channels to process; None for all. Numbers, or names until `channels.numbered_steps` replaces them.
    params
        Keyword arguments of the function; for a command, its entry in the configuration.
    command
        The program to run instead of a function.
    needs
        What the step needs of a machine.
    keep
        Whether its images are kept.
    """

    position: int
    call: str
    name: str | None = None
    channels: tuple[Any, ...] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    command: Command | None = None
    needs: Needs = NO_NEEDS
    keep: bool = False

    @property
    def function_name(self) -> str:
        return self.call.rpartition(":")[2]

    def __str__(self) -> str:
        return f"step {self.position} ({self.call})"

    def keywords(self) -> dict[str, Any]:
        """The arguments of the function besides image, filemanager, metadata and backend."""
        chosen = {} if self.channels is None else {"channels": list(self.channels)}
        return {**self.params, **chosen}


@dataclass(frozen=True)
class PlateOptions:
    """What the configuration says about a single plate.

    Parameters
    ----------
    wells
        "all", or wells and ranges of wells.
    pattern
        Pattern for the file names in a folder; None reads the microscope's metadata.
    incomplete
        "error", "skip" or "fill": what to do about planes that are missing from a folder.
    follow_links
        Whether symbolic links in a folder may point outside it.
    acquisition
        Id or name of the acquisition to process, or "all", for a plate that was imaged several times.
    plate_map
        A plate map, a folder of them, or "omero" for what OMERO says about the wells.
    """

    wells: str | tuple[str, ...] = "all"
    pattern: str | None = None
    incomplete: Incomplete = "error"
    follow_links: bool = False
    acquisition: int | str | None = None
    plate_map: str | None = None


@dataclass(frozen=True)
class Settings:
    """The whole configuration; config/README.md explains its keys.

    `plates` maps the label of each plate, as used in rules and tables, to its path: ``{"7": "/omero/plate_7", "day_1":
    "/data/day_1"}``. `options` maps each label to the plate's other settings. `map_on_source` also writes the plate
    maps to the source plates in OMERO. `scratch` is the folder for temporary files of commands and for kept images,
    which take at most `scratch_gb` GB; None for the system's.
    `analysis` holds the keys `analysis` and `qc` unchanged; it is None if the configuration has neither.
    """

    omero: Mapping[str, Any]
    plates: Mapping[str, str]
    wells: str | tuple[str, ...]
    output: str
    steps: tuple[Step, ...]
    results: Path
    heatmaps: tuple[str, ...] | None
    wells_per_job: int | None
    job_minutes: float
    materialization_backend: str
    options: Mapping[str, PlateOptions]
    rois: RoiOptions = DERIVED_MASKS
    scratch: Path | None = None
    scratch_gb: float = SCRATCH_GB
    map_on_source: bool = False
    analysis: Mapping[str, Any] | None = None
    notify: tuple[str, ...] = ()

    def server(self) -> Server:
        """The OMERO server given by `omero:` and the environment."""
        from openhcs_omero.omero.server import Server

        return Server.from_config(self.omero)

    def folder(self, plate: str | int) -> Path:
        """The folder where the workflow keeps its files about a plate."""
        return self.results / f"plate_{plate}_{self.output}"

    @property
    def screen_folder(self) -> Path:
        """The folder for the results of all plates together."""
        return self.results / f"screen_{self.output}"

    @property
    def screen_source(self) -> str:
        """Name of the table of each plate that the table of all plates is made of."""
        return "wells.csv" if self.analysis is None else "normalised.csv"

    @property
    def has_map(self) -> bool:
        """Whether any plate has a plate map, in files or in OMERO."""
        return any(options.plate_map for options in self.options.values())

    @property
    def has_qc(self) -> bool:
        """Whether the quality of the images is measured."""
        return "qc" in (self.analysis or {})

    @property
    def excludes_sites(self) -> bool:
        """Whether sites may be left out of statistics because of their images."""
        if not self.has_qc:
            return False
        from openhcs_omero.analysis.settings import read_settings  # takes a second to import

        return bool(read_settings(self.analysis or {}).exclude_sites)

    @property
    def in_omero(self) -> bool:
        """Whether any of the plates is in OMERO."""
        return any(plate_of(path) for path in self.plates.values())

    @property
    def named_columns(self) -> list[str]:
        """The columns of the tables that the configuration names: for heat maps, and for the analysis."""
        wanted = (self.analysis or {}).get("analysis") or {}
        hits, response = wanted.get("hits") or [], wanted.get("dose_response")
        criteria = [*(hits if isinstance(hits, list) else [hits]), *([response] if response else [])]
        analyzed = [*(wanted.get("features") or []), *(criterion["feature"] for criterion in criteria)]
        return list(dict.fromkeys([*(self.heatmaps or ()), *analyzed]))

    @property
    def plate_answers(self) -> list[str]:
        """The files that the analysis writes to the folder of each plate; empty without an analysis."""
        if self.analysis is None:
            return []
        wanted = self.analysis.get("analysis") or {}
        return ["quality.csv", "normalised.csv", *(f"{key}.csv" for key in ("hits", "dose_response") if key in wanted)]

    @property
    def screen_answers(self) -> list[str]:
        """The tables that the analysis writes about all plates together."""
        wanted = (self.analysis or {}).get("analysis") or {}
        names = [name for name in self.plate_answers if name != "normalised.csv"]
        if "hits" in wanted or "dose_response" in wanted:
            names += ["replicates.csv", "plate_agreement.csv"]
        profiles = {
            "profiles": "profiles.parquet",
            "anndata": "profiles.h5ad",
            "mean_average_precision": "mean_average_precision.csv",
        }
        return names + [name for key, name in profiles.items() if wanted.get(key)]

    @property
    def pace_file(self) -> Path:
        """The file that says how long a well takes (pace.py)."""
        return self.results / f"pace_{self.output}.json"


def read_config(config: Mapping[str, Any]) -> Settings:
    """Turn a valid configuration into settings, with defaults for missing keys.

    Raises
    ------
    OpenHCSError
        If the path of a plate is invalid, two plates would be written to the same place, or `results` is in OMERO.
    """
    wells = _wells(config.get("wells", "all"))
    results = config.get("results", "results")
    try:
        on_disk(results)
    except BadData as error:
        raise ConfigError(f"results: {error}") from None
    plates = [(entry["path"], entry) if isinstance(entry, Mapping) else (entry, {}) for entry in config["plates"]]
    paths = _plates([path for path, _ in plates])
    heatmaps = config.get("heatmaps")
    maps = {label: entry.get("plate_map", config.get("plate_map")) for label, (_, entry) in zip(paths, plates)}
    for label, path in paths.items():
        if maps[label] == IN_OMERO and not plate_of(path):
            raise ConfigError(f"plate_map is omero, but plate {label} is in a folder: name a file of plate maps")
    return Settings(
        omero=dict(config.get("omero") or {}),
        plates=paths,
        wells=wells,
        output=config.get("output", "processed"),
        steps=tuple(
            _step(position, step, Path(config.get("config_dir", ".")))
            for position, step in enumerate(config["steps"], 1)
        ),
        results=Path(results),
        heatmaps=None if heatmaps is None else tuple(heatmaps),
        wells_per_job=config.get("wells_per_job"),
        job_minutes=config.get("job_minutes", 10),
        materialization_backend=config.get("materialization_backend", "disk"),
        rois=_rois(config.get("rois", {})),
        scratch=Path(config["scratch"]).expanduser() if "scratch" in config else None,
        scratch_gb=config.get("scratch_gb", SCRATCH_GB),
        map_on_source=config.get("plate_map_on_source", False),
        notify=tuple(config.get("notify", ())),
        analysis={key: config[key] for key in ("analysis", "qc") if key in config} or None,
        options={
            label: PlateOptions(
                _wells(entry["wells"]) if "wells" in entry else wells,
                entry.get("pattern"),
                entry.get("incomplete", config.get("incomplete", "error")),
                entry.get("follow_links", False),
                entry.get("acquisition"),
                maps[label],
            )
            for label, (_, entry) in zip(paths, plates)
        },
    )


def _rois(given: Mapping[str, Any]) -> RoiOptions:
    return RoiOptions(given.get("on", "derived"), given.get("as", "masks"))


def _wells(wells: str | Iterable[str]) -> str | tuple[str, ...]:
    return wells if isinstance(wells, str) else tuple(wells)


def _plates(entries: Iterable[int | str]) -> dict[str, str]:
    """Map labels to paths; the label is the last part of the path, without a leading "plate_"."""
    plates: dict[str, str] = {}
    given: dict[str, int | str] = {}
    for entry in entries:
        place = plate_of(entry)
        path = str(place or _folder_or_address(str(entry)))
        name = os.path.basename(os.path.abspath(path))
        label = name.removeprefix("plate_") or name
        if label in given:
            raise ConfigError(
                f"plates has {given[label]!r} and {entry!r}, whose results would both go to "
                f"plate_{label}: remove one, or run them with different `results`"
            )
        if not _LABEL.fullmatch(label):
            raise ConfigError(
                f"plates has {entry!r}, but results can't be stored under that name: rename the folder with "
                "letters, digits, spaces and . _ - + , = @ ( ) only"
            )
        given[label], plates[label] = entry, path
    return plates


def _folder_or_address(entry: str) -> str:
    """A folder, or an address on S3 without a slash at its end; raises ConfigError for addresses of other kinds."""
    scheme = _SCHEME.match(entry)
    if scheme is None:
        return os.path.expanduser(entry)
    if not in_s3(entry) or not entry.removeprefix(S3).strip("/"):
        raise ConfigError(
            f"plates has {entry!r}: a plate is an OMERO id, a path in OMERO, a folder, or an OME-Zarr plate on S3 "
            "like s3://bucket/plate.zarr"
        )
    return entry.rstrip("/")


_OF_COMMANDS = ("command", "per", "images", "read", "version", "files")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LABEL = re.compile(r"\w[\w .+,=@()-]*(?<! )")


def _step(position: int, step: Mapping[str, Any], config_dir: Path) -> Step:
    channels = step.get("channels")
    command = read_command(step, config_dir) if "command" in step else None
    params = step.get("params", {}) if command is None else {key: step[key] for key in _OF_COMMANDS if key in step}
    return Step(
        position,
        step["call"] if command is None else command.program,
        step.get("name"),
        None if channels is None else tuple(channels),
        dict(params),
        command,
        Needs.of(step),
        step.get("keep", False),
    )
