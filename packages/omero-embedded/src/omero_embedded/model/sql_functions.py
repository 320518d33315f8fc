"""Functions that SQLite lacks, or has with other results than PostgreSQL, written in Python."""

from __future__ import annotations

import datetime
import math
import re
import sqlite3
import threading
from collections.abc import Callable

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_refused = threading.local()


def register(connection: sqlite3.Connection) -> None:
    """Add the functions to a connection."""
    for name, made in _FUNCTIONS.items():
        connection.create_function(name, -1, _noted(made), deterministic=True)


def refusal() -> str | None:
    """Why a function refused its arguments in the last statement of this thread; None if none did."""
    reason = getattr(_refused, "reason", None)
    _refused.reason = None
    return reason


def _noted(function: Callable) -> Callable:
    """A function of which the error is kept, because SQLite passes on only that there was one. Null stays null."""

    def made(*args):
        if None in args:
            return None
        try:
            return function(*args)
        except ValueError as refused:
            _refused.reason = str(refused)
            raise

    return made


def time_of(text: str) -> int:
    """Return the milliseconds since 1970 of a date or a time in ISO format, in UTC.

    Raises
    ------
    ValueError
        If the text is not one.
    """
    try:
        found = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"invalid input syntax for type timestamp: '{text}'") from None
    found = found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
    return (found - EPOCH) // datetime.timedelta(milliseconds=1)


def _moment(milliseconds: int) -> datetime.datetime:
    return EPOCH + datetime.timedelta(milliseconds=milliseconds)


def _divisor(value):
    if value == 0:
        raise ValueError("division by zero")
    return value


def _root(value):
    if float(value) < 0:
        raise ValueError("cannot take square root of a negative number")
    return math.sqrt(float(value))


def _logarithm(value, base: float = math.e):
    if float(value) <= 0:
        raise ValueError(f"cannot take logarithm of {'a negative number' if float(value) else 'zero'}")
    return math.log(float(value), base)


def _number(text, kind: str) -> int | float:
    try:
        return float(text) if kind == "double" else int(text)
    except ValueError:
        raise ValueError(f"invalid input syntax for {kind}: '{text}'") from None


def _number_text(value) -> str:
    """A number as PostgreSQL writes it: 8.0 is `8`."""
    return repr(float(value)).removesuffix(".0").replace("nan", "NaN")


def _time_text(milliseconds: int) -> str:
    """A time as PostgreSQL writes it: `2017-07-14 02:40:00.123`."""
    text = _moment(milliseconds).strftime("%Y-%m-%d %H:%M:%S.%f")
    return text.rstrip("0").rstrip(".")


def _date_trunc(unit: str, milliseconds: int) -> int:
    units = ("year", "month", "day", "hour", "minute", "second")
    if unit.lower() not in units:
        raise ValueError(f"unit '{unit}' is not recognized")
    first = {"month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0, "microsecond": 0}
    smaller = [*first][units.index(unit.lower()) :]
    found = _moment(milliseconds).replace(**{name: first[name] for name in smaller})  # type: ignore[arg-type]
    return (found - EPOCH) // datetime.timedelta(milliseconds=1)


_PATTERNS = {
    "YYYY": "%Y",
    "YY": "%y",
    "MM": "%m",
    "DD": "%d",
    "HH24": "%H",
    "HH12": "%I",
    "HH": "%I",
    "MI": "%M",
    "SS": "%S",
    "Month": "%B",
    "Mon": "%b",
    "Day": "%A",
    "Dy": "%a",
}


def _to_char(milliseconds: int, pattern: str) -> str:
    form = re.sub("|".join(_PATTERNS), lambda found: _PATTERNS[found[0]], pattern.replace("%", "%%"))
    return _moment(milliseconds).strftime(form)


# SQLite's own `lower` and `upper` handle ASCII only.
_FUNCTIONS: dict[str, Callable] = {
    "lower": lambda text: str(text).lower(),
    "upper": lambda text: str(text).upper(),
    "initcap": lambda text: re.sub(r"[^\W_]+", lambda word: word[0].capitalize(), text),
    "divisor": _divisor,
    "square_root": _root,
    "logarithm": _logarithm,
    "to_number": _number,
    "number_text": _number_text,
    "time_value": time_of,
    "time_text": _time_text,
    "date_trunc": _date_trunc,
    "to_char": _to_char,
}
