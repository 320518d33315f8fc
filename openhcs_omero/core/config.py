"""The configuration: checked once against its schema, then turned into plain dataclasses."""

from __future__ import annotations

import difflib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.core.command import Command, check_commands, read_command
from openhcs_omero.core.needs import NO_NEEDS, Needs
from openhcs_omero.errors import ConfigError, brief
from openhcs_omero.io.base import BadData, on_disk
from openhcs_omero.plates.arrangement import Incomplete
from openhcs_omero.plates.labels import DERIVED_MASKS, RoiOptions
from openhcs_omero.plates.paths import S3, in_s3, plate_of

if TYPE_CHECKING:
    from openhcs_omero.omero.server import Server


IN_OMERO = "omero"  # as `plate_map`: what OMERO says about the wells
SCRATCH_GB = 100  # the default
LOOKED_AT = 50  # collect at most this many errors; the first one, by its place, is reported


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


def retype(config: MutableMapping[str, Any], given: Mapping[str, Any]) -> None:
    """Convert the values in a configuration that came from `--config` to the types that YAML gives them."""
    for key, value in given.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), MutableMapping):
            retype(config[key], value)
        elif key in config and config[key] == value:
            config[key] = typed(value)


def typed(value: Any) -> Any:
    """Convert a value of `--config` to its YAML type: Snakemake reads the 7 in plates=[7] as text."""
    import yaml

    if isinstance(value, Mapping):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    try:
        meant = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        return value
    return meant if isinstance(meant, bool | int | float | None) else value


def name_keys(config: Mapping[str, Any]) -> None:
    """Give the key `on` of `rois` its name again: YAML 1.1 reads it as true."""
    rois = config.get("rois")
    if isinstance(rois, MutableMapping) and True in rois:
        rois["on"] = rois.pop(True)


def check_config(config: Mapping[str, Any], schema: Path) -> None:
    """Check a configuration against the JSON schema in a YAML file.

    Raises
    ------
    ConfigError
        One sentence about the first error: where it is, what the value is and what is expected.
    """
    import yaml

    errors = list(itertools.islice(_validator(yaml.safe_load(schema.read_text())).iter_errors(config), LOOKED_AT))
    errors.sort(key=lambda error: [str(part) for part in error.absolute_path])
    if errors:
        raise ConfigError(_sentence(errors[0]))
    try:
        json.dumps(config)
    except TypeError as error:
        raise ConfigError(
            f"the configuration and the params of steps can only hold numbers, text, lists and dicts: {error}"
        ) from None
    check_keys(config)
    check_commands(config)
    for number, step in enumerate(config["steps"]):
        if step.get("keep") and "scratch" not in config:
            raise ConfigError(
                f"the configuration's steps[{number}] has `keep: true`, but there is no `scratch`: name the folder for "
                "kept images"
            )


def _validator(schema: Mapping[str, Any]) -> Any:
    """A JSON schema validator that matches patterns against whole texts and checks uniqueness in linear time."""
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[Any]:
        if isinstance(value, str) and not re.fullmatch(pattern.removesuffix("$"), value):  # "$" lets a newline pass
            yield ValidationError(f"{value!r} does not match {pattern!r}")

    def unique(_validator: Any, wanted: bool, items: Any, _schema: Any) -> Iterator[Any]:
        if wanted and isinstance(items, list):  # the type check rejects items of other types
            plain = [(isinstance(item, bool), item) for item in items if isinstance(item, str | int | float)]
            if len(set(plain)) < len(plain):
                yield ValidationError("the items are not unique")

    return extend(Draft202012Validator, {"pattern": pattern, "uniqueItems": unique})(schema)


def check_keys(value: Any) -> None:
    """Check that all keys of nested dicts are text: values reach their steps as JSON, which allows no other keys.

    Raises
    ------
    ConfigError
        For the first key that is not text.
    """
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        check_keys(part)
    for key in value if isinstance(value, Mapping) else ():
        if not isinstance(key, str):
            raise ConfigError(
                f"the configuration has the key {key!r} in {dict(value)!r}, but keys must be text: write "
                f"'{key}', and convert it in the step"
            )


def _sentence(error: Any) -> str:
    """A jsonschema ValidationError as one plain sentence."""
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path).lstrip(".")
    if where.startswith("notify"):  # where an address may have been written, which is not shown
        return (
            "the configuration's notify must be a list of channels like [slack], with letters, digits and _ in their "
            "names; an address belongs into the environment, see config/README.md"
        )
    if error.validator == "anyOf":
        error = error.context[0]
    if error.validator == "not":
        return (
            f"the configuration's {where} has both {' and '.join(error.validator_value['required'])}: keep one of them"
        )
    if error.validator == "dependentRequired":
        key = next(
            key
            for key, others in error.validator_value.items()
            if key in error.instance and not {*others} & {*error.instance}
        )
        return (
            f"the configuration's {where} has {key!r}, which is only for steps with {error.validator_value[key][0]!r}"
        )
    if error.validator == "additionalProperties":
        known = sorted(error.schema["properties"])
        unknown = next(key for key in error.instance if key not in known)
        meant = difflib.get_close_matches(str(unknown)[:100], known, n=1)
        advice = f"did you mean {meant[0]!r}?" if meant else f"known are {', '.join(known)}"
        return f"the configuration has an unknown key {brief(unknown)}{f' in {where}' if where else ''}: {advice}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"the configuration lacks {missing!r}{f' in {where}' if where else ''}; config/README.md explains it"
    expected = {
        "type": lambda v: f"must be {_KINDS.get(str(v), v)}",
        "pattern": lambda v: (
            "must " + ("have the form module:function" if ":" in v else "consist of letters, digits, - and _")
        ),
        "minItems": lambda v: "must not be empty",
        "minLength": lambda v: "must not be empty",
        "maxItems": lambda v: f"must have at most {v} entries",
        "maxLength": lambda v: f"must have at most {v} characters",
        "uniqueItems": lambda v: "must not contain duplicates",
        "minimum": lambda v: f"must be at least {v}",
        "maximum": lambda v: f"must be at most {v}",
        "enum": lambda v: f"must be {' or '.join(v)}",
        "oneOf": lambda v: "must be all, or a list of wells and ranges like [A01, B01-B12]",
    }[error.validator](error.validator_value)
    return f"the configuration's {where or 'content'} is {brief(error.instance)}, but it {expected}"


_KINDS = {
    "array": "a list like [1, 2]",
    "object": "a mapping of keys to values",
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
    "number": "a number",
    "['integer', 'string', 'object']": "an id, a path in OMERO or a folder",
    "['string', 'object']": "text, or {command: ...} for the command that prints it",
    "['string', 'null']": "a SHA-256, or nothing",
    "['array', 'object']": "a list of paths, or a mapping of paths to their SHA-256",
    "['integer', 'string']": "an id, a path in OMERO or a folder",
    "['string', 'integer']": "a number or a name",
}
