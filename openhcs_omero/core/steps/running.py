"""Running the steps on a site, and checking what they return."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from openhcs_omero.core.config import Step
from openhcs_omero.core.tables import PLACE
from openhcs_omero.errors import StepError


def run_steps(steps: Sequence[tuple[Step, Callable[..., Any]]], image: np.ndarray, filemanager: Any,
              metadata: Mapping[str, Any], estimates: Mapping[int, Mapping[int, np.ndarray]], backend: str,
              ) -> tuple[np.ndarray, dict[str, Any], list[dict[str, Any]]]:
    """Run all steps on one site.

    Parameters
    ----------
    steps
        The steps with their functions, in order.
    image
        (T, C, Z, Y, X).
    estimates
        By the step's position: channel -> (Y, X), for steps that have a plate estimate.
    backend
        What the steps are told to save to.

    Returns
    -------
    image, results, objects
        The last step's image, the scalars of all steps, and a row an object.

    Raises
    ------
    StepError
        Where a step returns something else than a step does, or a key that another has returned.
    """
    results: dict[str, Any] = {}
    objects: list[dict[str, Any]] = []
    for step, function in steps:
        told = dict(metadata)
        if step.position in estimates:
            told["plate_estimate"] = estimates[step.position]
        image, found = _checked(step, function(image, filemanager, told, backend=backend, **step.keywords()))
        prefix = f"{step.name}_" if step.name else ""
        rows = found.pop("objects", [])
        objects += [{"step": step.name or step.function_name, **row} for row in rows]
        for key, value in found.items():
            if prefix + key in results:
                raise StepError(f"{step} returns {prefix + key!r}, as another step does: give one of them a `name:`")
            results[prefix + key] = value
    return image, results, objects


def _checked(step: Step, returned: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """What a step returned, made sure of: an image that OMERO can keep, and a flat dict of scalars."""
    if not (isinstance(returned, tuple) and len(returned) == 2):
        raise StepError(f"{step} returned {type(returned).__name__}; a step returns (image, results)")
    image, results = returned
    if not (isinstance(image, np.ndarray) and image.ndim == 5 and image.size):
        shape = getattr(image, "shape", type(image).__name__)
        raise StepError(f"{step} returned an image {shape}; it must be an array (T, C, Z, Y, X)")
    if not isinstance(results, Mapping):
        raise StepError(f"{step} returned results of type {type(results).__name__}; they must be a dict")
    results = dict(results)
    rows = results.get("objects", [])
    if not (isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)):
        raise StepError(f"{step} returned 'objects' that are no list of dicts, one dict an object")
    for key in itertools.chain(results, *rows):
        if not isinstance(key, str) or not key or "/" in key or key in (*PLACE, "sites"):
            raise StepError(f"{step} returned the key {key!r}; a key is text without '/', and none of "
                            f"{', '.join(PLACE)} and sites, which the tables have already")
    for key, value in results.items():
        if key != "objects" and not (value is None or np.isscalar(value)):
            raise StepError(f"{step} returned {key!r} of type {type(value).__name__}; results are numbers or text")
    return image, results
