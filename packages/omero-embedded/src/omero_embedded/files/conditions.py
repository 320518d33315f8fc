"""Conditions on a table's rows, as PyTables takes them: numexpr's expressions of columns, variables and values."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numexpr
import numpy as np
import omero

from omero_embedded.errors import refuse

# These hold several numbers a row, which no condition takes.
WITHOUT_CONDITIONS = ("LongArrayColumn", "FloatArrayColumn", "DoubleArrayColumn", "MaskColumn")
_NAME = re.compile(r"[A-Za-z_]\w*")


def true_for(
    condition: str, headers: Sequence, variables: dict, values: Callable[[int], np.ndarray], count: int
) -> np.ndarray:
    """Whether the condition is true, for each of `count` rows.

    Parameters
    ----------
    values : the values of the column in a place.

    Raises
    ------
    omero.ApiUsageException
        It is no condition, or a name in it is unknown.
    omero.InternalException
        It compares what can't be compared, or a variable is a text that names no column.
    """
    places = {one.name: place for place, one in enumerate(headers)}
    known: dict = {}
    for name in set(_NAME.findall(condition)):
        place = places.get(name)
        if name in variables:
            place = None
            known[name] = variables[name]
            if isinstance(variables[name], str):
                place = places.get(variables[name])
                if place is None:
                    raise refuse(omero.InternalException, "A text can't be a variable: write it into the condition.")
        if place is not None:
            if type(headers[place]).__name__ in WITHOUT_CONDITIONS:
                raise refuse(omero.InternalException, f"The column {name} can't be in a condition.")
            known[name] = values(place)
    found = np.asarray(_evaluated(condition, known))
    if found.dtype != bool:
        raise refuse(omero.ApiUsageException, f"{condition!r} is not a condition: it is neither true nor false.")
    return np.broadcast_to(found, (count,))


def _evaluated(condition: str, known: dict):
    try:
        return numexpr.evaluate(condition, local_dict=known, global_dict={})
    except NotImplementedError as wrong:
        raise refuse(omero.InternalException, f"{condition!r} can't be asked of these columns: {wrong}") from None
    except (KeyError, NameError, SyntaxError, TypeError, ValueError, AttributeError, IndexError) as wrong:
        raise refuse(omero.ApiUsageException, f"Bad condition: {condition}: {wrong}") from None
