"""Programs as steps: the key `command` of a step, what it may contain, and what a well depends on because of it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import selectors
import shlex
import signal
import string
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from openhcs_omero.errors import ConfigError, brief
from openhcs_omero.password import child_environment

PLACEHOLDERS = {
    "images": "the folder with the images of the well or site",
    "out": "the folder for what the command writes",
    "config_dir": "the folder of the configuration file",
    "well": "the name of the well",
    "plate": "the name of the plate in the tables",
    "site": "the number of the site, with `per: site`",
    "threads": "the CPUs of the job",
}
SHELL = ("bash", "-euo", "pipefail")
VERSION_SECONDS = 120
LONGEST_VERSION = 10_000  # characters; it is recorded with every well
ENOUGH = 4 * LONGEST_VERSION  # bytes


@dataclass(frozen=True)
class Command:
    """A program that is a step.

    Parameters
    ----------
    text
        What the shell runs, with placeholders.
    per
        Whether it runs once per well or once per site.
    images
        The format of the images that it gets.
    image
        Pattern for the images that it writes; None if it changes no image.
    labels
        Patterns for the labels that it writes, by name.
    tables
        Patterns for its tables.
    key
        The column of its tables that names the site.
    version
        Its version, or the command that prints it.
    files
        Paths of files that it depends on, with their SHA-256, which is None as long as it is not known.
    folder
        The folder of the configuration file, where these paths begin.
    """

    text: str
    per: Literal["well", "site"]
    images: Literal["ome-tiff", "ome-zarr"]
    image: str | None
    labels: Mapping[str, str]
    tables: tuple[str, ...]
    key: str | None
    version: str | Mapping[str, str]
    files: Mapping[str, str | None]
    folder: Path

    @property
    def program(self) -> str:
        """The name of the program, for messages."""
        return PurePosixPath(self.text.split()[0].strip("\"'")).name

    def expanded(self, values: Mapping[str, object]) -> str:
        """The text for the shell with the placeholders replaced; each value is one word, whatever it contains."""
        return "".join(
            literal + ("" if name is None else shlex.quote(str(values[name]))) for literal, name in parts(self.text)
        )

    def resolved(self) -> dict[str, Any]:
        """The version as text, and the files with their SHA-256; raises ConfigError if either can't be had."""
        version = self.version if isinstance(self.version, str) else _printed(self.version["command"], self.folder)
        files = {name: hash_of(self.folder / name) if sha is None else sha for name, sha in self.files.items()}
        return {"version": version, "files": files}


def read_command(entry: Mapping[str, Any], folder: Path) -> Command:
    """Read the command of a valid entry of `steps`."""
    read, files = entry["read"], entry.get("files", {})
    return Command(
        entry["command"],
        entry.get("per", "site"),
        entry.get("images", "ome-tiff"),
        read.get("image"),
        dict(read.get("labels", {})),
        tuple(read.get("tables", ())),
        read.get("key"),
        entry.get("version", ""),
        dict(files) if isinstance(files, Mapping) else dict.fromkeys(files),
        folder,
    )


def parts(text: str) -> Iterator[tuple[str, str | None]]:
    """Split a command into pairs of literal text and the placeholder after it, which is None at the end.

    Raises
    ------
    ValueError
        If braces do not match.
    """
    for literal, name, form, conversion in string.Formatter().parse(text):
        given = f"{name}{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
        yield literal, None if name is None else given


def check_commands(config: Mapping[str, Any]) -> None:
    """Check the commands of a configuration that fits its schema.

    Raises
    ------
    ConfigError
        For the first error.
    """
    for number, entry in enumerate(config["steps"]):
        if "command" in entry:
            _check(entry, f"the configuration's steps[{number}]")


def _check(entry: Mapping[str, Any], where: str) -> None:
    text, read = entry["command"], entry["read"]
    if not text.strip():
        raise ConfigError(f"{where}.command is empty")
    if "\0" in text:
        raise ConfigError(f"{where}.command contains a null character, which no shell takes")
    _check_placeholders(text, entry.get("per", "site"), f"{where}.command")
    if not any(read.get(key) for key in ("image", "labels", "tables")):
        raise ConfigError(f"{where}.read names no image, labels or tables, so the command would have no results")
    patterns = {
        "image": read.get("image"),
        **{f"labels.{name}": pattern for name, pattern in read.get("labels", {}).items()},
        **{f"tables[{place}]": pattern for place, pattern in enumerate(read.get("tables", ()))},
    }
    for key, pattern in patterns.items():
        if pattern is not None and (pattern.startswith("/") or ".." in PurePosixPath(pattern).parts):
            raise ConfigError(
                f"{where}.read.{key} is {brief(pattern)}, but it must name files below {{out}}, without / at the start "
                "and without .."
            )


def _check_placeholders(text: str, per: str, where: str) -> None:
    known = [name for name in PLACEHOLDERS if name != "site" or per == "site"]
    advice = f"known are {', '.join(f'{{{name}}}' for name in known)}; write braces of the shell as {{{{ and }}}}"
    try:
        split = list(parts(text))
    except ValueError:
        raise ConfigError(f"{where} has braces that don't match: {advice}") from None
    before = ""
    for literal, name in split:
        before += literal
        if name is None:
            continue
        if name not in known:
            raise ConfigError(f"{where} has the unknown placeholder {{{name[:100]}}}: {advice}")
        if quote := open_quote(before):
            raise ConfigError(
                f"{where} has {{{name}}} {quote}: remove the quotes or the backslash, because the workflow quotes "
                "placeholders itself"
            )
        before += "x"


def open_quote(text: str) -> str:
    """Describe the quote of a shell that is open at the end of a text; "" if there is none."""
    quote, place = "", 0
    while place < len(text):
        character = text[place]
        if quote:
            place += quote == '"' and character == "\\"
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "\\":
            place += 1
            if place == len(text):
                return "after a backslash"
        elif character == "#" and (place == 0 or text[place - 1] in " \t\n;&|("):
            place = text.find("\n", place)
            if place < 0:
                return "in a comment"
        place += 1
    return f"inside {quote}...{quote}" if quote else ""


def check_shell(command: Command) -> str:
    """What is wrong with the syntax of a command, as the shell says it; "" if nothing is."""
    text = command.expanded(dict.fromkeys(PLACEHOLDERS, "x"))
    done = subprocess.run(
        [SHELL[0], "-n", "-c", text], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment()
    )
    lines = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else (lines[0] if lines else f"exit code {done.returncode}")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a command: this one, without the password, OMERO's session and paths of this Python."""
    mine = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH")
    inherited = child_environment().items()
    return {name: value for name, value in inherited if not name.startswith("OMERO_") and name not in mine} | {
        **(extra or {})
    }


@functools.cache
def _printed(text: str, folder: Path) -> str:
    """What the command that prints a version prints."""
    failed = f"the command for a version {brief(text)} failed"
    try:
        status, said = _run_briefly(text, folder)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{failed}: it took longer than {VERSION_SECONDS} seconds") from None
    except OSError as error:
        raise ConfigError(f"{failed}: {error.strerror}: {error.filename}") from None
    if len(said) > LONGEST_VERSION:
        raise ConfigError(f"{failed}: it printed more than {LONGEST_VERSION} characters, which are no version")
    if status:
        reason = said.splitlines()[-1] if said else "it printed nothing"
        raise ConfigError(f"{failed} with exit code {status}: {reason[:200]}")
    if not said:
        raise ConfigError(f"{failed}: it printed nothing")
    return said


def _run_briefly(text: str, folder: Path) -> tuple[int, str]:
    """Run a shell command that ends soon; returns its exit code and what it printed. What it started ends with it.

    If it prints much more than a version, the rest is not read.
    """
    with subprocess.Popen(
        [*SHELL, "-c", text],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    ) as process:
        end = time.monotonic() + VERSION_SECONDS
        try:
            printed = _read_pipes(process, end)
            if max(map(len, printed)) <= ENOUGH:
                process.wait(max(0.0, end - time.monotonic()))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    out, errors = (each.decode(errors="replace").strip() for each in printed)
    return process.returncode, out or errors  # some programs print their version to stderr


def _read_pipes(process: subprocess.Popen[bytes], end: float) -> list[bytes]:
    """What a process prints to stdout and stderr, until both end or one has more than a version."""
    printed = {pipe: b"" for pipe in (process.stdout, process.stderr) if pipe is not None}
    with selectors.DefaultSelector() as waiting:
        for pipe in printed:
            waiting.register(pipe, selectors.EVENT_READ)
        while waiting.get_map() and max(map(len, printed.values())) <= ENOUGH:
            if not (ready := waiting.select(max(0.0, end - time.monotonic()))):
                raise subprocess.TimeoutExpired(process.args, VERSION_SECONDS)
            for key, _ in ready:
                more = os.read(key.fd, 2**16)
                printed[key.fileobj] += more  # type: ignore[index]
                if not more:
                    waiting.unregister(key.fileobj)
    return list(printed.values())


def hash_of(path: Path) -> str:
    """The SHA-256 of a file that a command depends on, or of all files in a folder.

    Raises
    ------
    ConfigError
        If it can't be read.
    """
    try:
        if not path.is_dir():
            if path.exists() and not path.is_file():  # to read a pipe or a device would take forever
                raise ConfigError(f"`files` of a step names {path}, which is neither a file nor a folder")
            return _hash_of_file(path)
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        lines = [f"{file.relative_to(path).as_posix()} {_hash_of_file(file)}\n" for file in inside]
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()  # as names of files are
    except OSError as error:
        raise ConfigError(
            f"`files` of a step names {path}, which can't be read ({error.strerror}): relative paths begin in the "
            "folder of the configuration file"
        ) from None


def _hash_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
