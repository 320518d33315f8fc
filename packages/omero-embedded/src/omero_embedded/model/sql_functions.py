"""Functions that SQLite lacks, or has with other results than PostgreSQL, written in Python."""

from __future__ import annotations

import datetime
import hashlib
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
    return _moment(milliseconds).strftime(_form(pattern))


def _form(pattern: str) -> str:
    """PostgreSQL's pattern of a time as Python's."""
    return re.sub("|".join(_PATTERNS), lambda found: _PATTERNS[found[0]], pattern.replace("%", "%%"))


def _time_of_pattern(text: str, pattern: str) -> int:
    try:
        found = datetime.datetime.strptime(text, _form(pattern)).replace(tzinfo=datetime.UTC)
    except ValueError:
        raise ValueError(f"invalid value '{text}' for '{pattern}'") from None
    return (found - EPOCH) // datetime.timedelta(milliseconds=1)


def _number_to_char(value, pattern: str) -> str:
    """A number after a pattern such as `FM0000`, `999.99`, `S9,999`: 9 is a digit, 0 one that is there in any case."""
    if not re.fullmatch(r"(FM)?S?[09,G]*([.D][09]*)?", pattern, re.IGNORECASE) or not re.search("[09]", pattern):
        raise ValueError(f"to_char() of numbers takes no pattern '{pattern}' here")
    shape = pattern.upper().replace("D", ".").replace("G", ",")
    fill, signed = not shape.startswith("FM"), "S" in shape
    whole, point, decimals = re.sub("FM|S", "", shape).partition(".")
    spots, point = whole.replace(",", ""), point if decimals else ""
    digits, _, after = f"{abs(value):.{len(decimals)}f}".partition(".")
    if len(digits) > len(spots):
        digits, after = "#" * len(spots), "#" * len(decimals)
    elif digits == "0" and "0" not in spots and point:
        digits = ""
    if not fill and set(decimals) <= {"9"}:
        after = after.rstrip("0")
        digits = digits or ("" if after else "0")
    least = len(spots) - spots.index("0") if "0" in spots else 0
    left = iter(digits.rjust(least, "0").rjust(len(spots)))
    made = "".join(next(left) if spot in "09" else spot for spot in whole)
    made = re.sub(r"^[ ,]+", lambda found: " " * len(found[0]), made)
    blanks = len(made) - len(made.lstrip())
    sign = "-" if value < 0 else "+" if signed else " "
    text = " " * blanks + sign + made[blanks:] + point + after
    return text if fill else text.strip()


_UNITS = {"year": 31_557_600_000, "mon": 2_592_000_000, "week": 604_800_000, "day": 86_400_000, "hour": 3_600_000}
_UNITS |= {"minute": 60_000, "min": 60_000, "second": 1000, "sec": 1000, "month": _UNITS["mon"]}


def interval_of(text: str) -> int:
    """Return the milliseconds of a text such as `1 day 2 hours`; months have 30 days.

    Raises
    ------
    ValueError
        If the text is not an interval.
    """
    parts = re.findall(r"(-?\d+(?:\.\d+)?)\s*([a-z]+)", text.lower())
    if not parts or re.sub(r"(-?\d+(?:\.\d+)?)\s*([a-z]+)|\s", "", text.lower()):
        raise ValueError(f"invalid input syntax for type interval: '{text}'")
    return sum(
        int(float(number) * _UNITS[unit if unit in _UNITS else unit.removesuffix("s")]) for number, unit in parts
    )


def _part_of(text, start: int, length: int | None = None) -> str:
    """The characters from a place, which is 1 for the first; places before that are empty."""
    if length is not None and length < 0:
        raise ValueError("negative substring length not allowed")
    end = None if length is None else max(0, start - 1 + length)
    return str(text)[max(0, start - 1) : end]


def _padded(text: str, width: int, fill: str) -> str:
    missing = max(0, width - len(text))
    return (fill * missing)[:missing] if fill else ""


# SQLite's own `lower` and `upper` handle ASCII only.
_FUNCTIONS: dict[str, Callable] = {
    "lower": lambda text: str(text).lower(),
    "upper": lambda text: "".join(one.upper() if len(one.upper()) == 1 else one for one in str(text)),
    "part_of": _part_of,
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
    "number_to_char": _number_to_char,
    "time_of_pattern": _time_of_pattern,
    "md5": lambda text: hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
    "reverse": lambda text: str(text)[::-1],
    "repeat": lambda text, times: str(text) * max(0, times),
    "lpad": lambda text, width, fill=" ": _padded(text, width, fill) + text[: max(0, width)],
    "rpad": lambda text, width, fill=" ": text[: max(0, width)] + _padded(text, width, fill),
    "split_part": lambda text, by, number: dict(enumerate(text.split(by) if by else [text], 1)).get(number, ""),
    "left_part": lambda text, count: text[:count],
    "right_part": lambda text, count: text[-count:] if count else "",
}
