"""Running the steps on a site, and checking what they return."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openhcs_omero.core.config import Step
from openhcs_omero.core.features import ABOUT_SITES, PLACE, RESERVED
from openhcs_omero.core.steps.object_rows import one_row_per_object
from openhcs_omero.errors import OpenHCSError, StepError, brief, is_lost
from openhcs_omero.plates.labels import Labels, check_labels, fits

_LABELS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")  # also names files and Zarr groups
LONGEST_KEY = 200


@dataclass(frozen=True)
class SiteResult:
    """What the steps made of a site.

    Parameters
    ----------
    image
        (T, C, Z, Y, X), as the last step returned it.
    results
        Scalars, or lists with one scalar per timepoint.
    objects
        One row per object, with what all steps found out about it. `labels` in a row names the labels that its number
        `label` belongs to.
    labels
        The labels of all steps, by name.
    timepoints
        The number of timepoints of the source image.
    """

    image: np.ndarray
    results: dict[str, Any]
    objects: list[dict[str, Any]]
    labels: dict[str, np.ndarray]
    timepoints: int

    @classmethod
    def of(cls, image: np.ndarray) -> SiteResult:
        """A site before its first step."""
        return cls(image, {}, [], {}, len(image))

    def after(self, step: Step, returned: Any) -> SiteResult:
        """The site after a step.

        Parameters
        ----------
        step
            The step.
        returned
            What it returned: (image, results).

        Raises
        ------
        StepError
            If that is not valid.
        """
        image, found = _checked(step, returned, self.timepoints)
        prefix = f"{step.name}_" if step.name else ""
        rows = found.pop("objects", [])
        labeled = {prefix + name: array for name, array in found.pop("labels", {}).items()}
        taken = [prefix + key for key in found if prefix + key in self.results]
        if again := taken or sorted(self.labels.keys() & labeled):
            raise StepError(f"{step} returns {again[0]!r}, as another step does: give one of them a `name:`")
        _check_fit(step, image, self.labels)
        objects = [{"step": step.name or step.function_name, **_numbered(step, row, prefix, labeled)} for row in rows]
        labels = self.labels | labeled
        return SiteResult(
            image,
            self.results | {prefix + key: value for key, value in found.items()},
            one_row_per_object([*self.objects, *objects], labels),
            labels,
            self.timepoints,
        )


class StepFailed(StepError):
    """A step raised an error or returned something invalid; `site` is None if that is about no particular site."""

    def __init__(self, step: Step, error: BaseException, site: int | None = None) -> None:
        self.step, self.reason, self.site = step, _reason(error).removeprefix(f"{step} "), site
        super().__init__(f"{step} {self.reason}" if isinstance(error, StepError) else f"{step} failed: {self.reason}")


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called sys.exit({'' if error.code is None else repr(error.code)})"
    text = str(error).strip().partition("\n")[0]
    text = text.encode(errors="backslashreplace").decode()  # names of files that are no text, of which records can't be
    if isinstance(error, OpenHCSError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def run_steps(
    steps: Sequence[tuple[Step, Callable[..., Any]]],
    image: np.ndarray,
    filemanager: Any,
    metadata: Mapping[str, Any],
    estimates: Mapping[int, Mapping[int, np.ndarray]],
    backend: str,
) -> SiteResult:
    """Run all steps on one site.

    Parameters
    ----------
    steps
        The steps with their functions, in order.
    image
        (T, C, Z, Y, X).
    filemanager
        Passed to the steps, which save files through it.
    metadata
        Passed to the steps, with the labels of the steps before as `labels`.
    estimates
        Position of the step -> channel -> (Y, X), for steps that have a plate estimate.
    backend
        Name of the backend that the steps should save to.

    Raises
    ------
    StepFailed
        If a step raises an error, calls `sys.exit`, or returns something invalid. The original error is its cause. Lack
        of memory and a lost server are not the step's fault, and those errors are raised unchanged.
    """
    done = SiteResult.of(image)
    for step, function in steps:
        done = run_step(step, function, done, filemanager, metadata, estimates, backend)
    return done


def run_step(
    step: Step,
    function: Callable[..., Any],
    done: SiteResult,
    filemanager: Any,
    metadata: Mapping[str, Any],
    estimates: Mapping[int, Mapping[int, np.ndarray]],
    backend: str,
) -> SiteResult:
    """Run a step on a site that the steps before it have processed; see `run_steps`."""
    told = {**metadata, "labels": dict(done.labels)}
    if step.position in estimates:
        told["plate_estimate"] = estimates[step.position]
    with failing(step, metadata.get("site")):
        return done.after(step, function(done.image, filemanager, told, backend=backend, **step.keywords()))


@contextlib.contextmanager
def failing(step: Step, site: int | None) -> Iterator[None]:
    """Raise the errors of a step as `StepFailed`, but for lack of memory and a lost server."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, MemoryError) or is_lost(error):
            raise
        raise StepFailed(step, error, site) from error


def _labels_of(row: Mapping[str, Any], prefix: str, labeled: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The row of an object with the full name of its labels, which it need not name if its step returned only one.

    None as the name says that the row belongs to no labels.
    """
    if "labels" in row and row["labels"] is None:
        return {key: value for key, value in row.items() if key != "labels"}
    if "labels" in row:  # they may be those of an earlier step
        own = f"{prefix}{row['labels']}"
        return {**row, "labels": own if own in labeled else row["labels"]}
    return {**row, "labels": next(iter(labeled))} if len(labeled) == 1 and "label" in row else dict(row)


def _numbered(step: Step, row: Mapping[str, Any], prefix: str, labeled: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The row of an object with the name of its labels and its number in them, which programs may write as 12.0."""
    made = _labels_of(row, prefix, labeled)
    number = made.get("label")
    if "labels" not in made or number is None or number != number:
        return made
    if isinstance(number, bool | np.bool_ | str) or not np.isfinite(number) or number != int(number):
        raise StepError(f"{step} returned objects with the label {brief(number, 30)}; labels are whole numbers")
    return {**made, "label": int(number)}


def _check_fit(step: Step, image: np.ndarray, labels: Labels) -> None:
    """Check that the labels of earlier steps still fit the image."""
    for name, array in labels.items():
        if not fits(array, image.shape):
            raise StepError(
                f"{step} returned an image {image.shape}, which the labels {name!r} {array.shape} of an earlier step "
                "do not fit: change the size of images before objects are looked for"
            )


def rows_of(results: Mapping[str, Any], times: Sequence[float | None]) -> list[dict[str, Any]]:
    """Convert the results of a site to rows of a table: a single row, or one row per timepoint if there are several.

    Parameters
    ----------
    results
        Scalars, or lists with one scalar per timepoint.
    times
        Seconds since the first timepoint, one per timepoint; None where unknown.
    """
    rows = []
    for t, seconds in enumerate(times):
        when: dict[str, Any] = {"t": t} if len(times) > 1 else {}
        if len(times) > 1 and seconds is not None:
            when["time_s"] = seconds
        rows.append({**when, **{key: value[t] if isinstance(value, list) else value for key, value in results.items()}})
    return rows


def _checked(step: Step, returned: Any, timepoints: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Check that a step returned an image that OMERO can store and a flat dict of scalars."""
    if not (isinstance(returned, tuple) and len(returned) == 2):
        raise StepError(f"{step} returned {type(returned).__name__}; a step returns (image, results)")
    image, results = returned
    if isinstance(image, np.ma.MaskedArray):
        raise StepError(f"{step} returned a masked array; no value stands for a missing pixel, so fill it in the step")
    if not (isinstance(image, np.ndarray) and image.ndim == 5 and image.size):
        shape = getattr(image, "shape", type(image).__name__)
        raise StepError(f"{step} returned an image {shape}; it must be an array (T, C, Z, Y, X)")
    if not isinstance(results, Mapping):
        raise StepError(f"{step} returned results of type {type(results).__name__}; they must be a dict")
    results = dict(results)
    rows = results.get("objects", [])
    if not (isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)):
        raise StepError(f"{step} returned 'objects' that are not a list of dicts, one dict per object")
    for key in results:
        _check_key(step, key, RESERVED)
    for key in dict.fromkeys(itertools.chain(*rows)):
        _check_key(step, key, (*PLACE[:-2], *ABOUT_SITES))  # objects may have their own timepoint
    for row in rows:
        for key, value in row.items():
            _check_scalar(step, f"objects with {brief(key)}", value)
    labels = _checked_labels(step, results.pop("labels", {}), image)
    scalars = {
        key: value if key == "objects" else _value(step, key, value, timepoints) for key, value in results.items()
    }
    return image, {**scalars, "labels": labels}


def _checked_labels(step: Step, labels: Any, image: np.ndarray) -> dict[str, np.ndarray]:
    """Check the labels that a step returned with an image."""
    if not isinstance(labels, Mapping):
        raise StepError(f"{step} returned 'labels' of type {type(labels).__name__}; they must be a dict of arrays")
    for name in labels:
        if not isinstance(name, str) or not _LABELS_NAME.fullmatch(name):
            raise StepError(f"{step} returned labels named {name!r}; a name is letters, digits, - and _")
    try:
        return {name: check_labels(name, array, image.shape) for name, array in labels.items()}
    except ValueError as error:
        raise StepError(f"{step} returned {error}") from None


def _check_key(step: Step, key: Any, taken: Sequence[str]) -> None:
    if not isinstance(key, str) or not key or "/" in key or key in taken or not key.isprintable():
        raise StepError(
            f"{step} returned the key {brief(key)}; a key is text without '/' and line breaks, and not a column "
            f"of the tables: {', '.join(taken[:-1])} or sites"
        )
    if len(key.encode()) > LONGEST_KEY:  # heat maps are files with the names of features
        raise StepError(f"{step} returned the key {brief(key)}; a key has at most {LONGEST_KEY} bytes")


def _value(step: Step, key: str, value: Any, timepoints: int) -> Any:
    """Check that a value is a scalar, or a list with one scalar per timepoint."""
    values = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(values, list | tuple) or timepoints == 1:
        _check_scalar(step, repr(key), value)
        return value
    if len(values) != timepoints:
        raise StepError(
            f"{step} returned {key!r} as a list; a list must have one number or text per timepoint, "
            f"{timepoints} in this case"
        )
    for item in values:
        _check_scalar(step, f"{key!r} as a list with an element", item)
    return list(values)


def _check_scalar(step: Step, what: str, value: Any) -> None:
    """Check that a value can stand in a table."""
    if value is None or isinstance(value, float | np.floating | np.bool_):
        return
    if isinstance(value, int | np.integer):
        if not -(2**63) <= value < 2**64:
            raise StepError(f"{step} returned {what} of {brief(value, 30)}; whole numbers have at most 64 bits")
    elif isinstance(value, str):
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise StepError(f"{step} returned {what} of {brief(value, 30)}, which is not a text that can be written")
    else:
        raise StepError(f"{step} returned {what} of type {type(value).__name__}; results are numbers or text")
