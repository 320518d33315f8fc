#!/usr/bin/env python3
"""Set up the virtual environment of `make demo` and `make test`; standard library only.

    python3 envs/bootstrap.py [--venv .venv]
    python3 envs/bootstrap.py --venv .venv-web --requirements envs/web.txt      (those packages, without the project)

It does nothing if everything is there already. The hard part is Ice, which envs/build_ice.py installs.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from build_ice import install_ice, say

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "packages" / "omero-embedded"
SUPPORTED = ((3, 11), (3, 12), (3, 13))


def run(*command: str | Path, **kw) -> subprocess.CompletedProcess:
    return subprocess.run([str(part) for part in command], check=True, **kw)


def make_venv(folder: Path) -> Path:
    """The environment's Python. A folder without a working one of this version is replaced."""
    python = folder / "bin" / "python"
    version = ".".join(map(str, sys.version_info[:2]))
    found = None
    if python.exists():
        found = subprocess.run(
            [python, "-c", "import sys, pip; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True
        ).stdout.strip()
    if found != version:
        say(f"creating {folder} with Python {version}")
        try:
            venv.create(folder, clear=folder.exists(), with_pip=True, symlinks=True)
        except subprocess.CalledProcessError:
            shutil.rmtree(folder, ignore_errors=True)
            sys.exit(f"[setup] Python {version} has no venv with pip: apt-get install python{version}-venv")
    return python


def install_project(python: Path) -> None:
    """Install all pinned packages, whose hashes are checked, and this folder (editable)."""
    constraints = ROOT / "envs" / "constraints.txt"
    lines = constraints.read_text().splitlines()
    if unhashed := [line for line in lines if "--hash=" not in line]:
        sys.exit(f"[setup] {unhashed[0]} has no hash in {constraints}: run `python3 envs/lock.py`")
    tools = python.parent.parent / "build-tools.txt"  # what builds packages without a wheel, and this folder
    tools.write_text("".join(f"{line}\n" for line in lines if line.startswith("setuptools==")))
    hashed = ("install", "--no-deps", "--no-build-isolation", "--require-hashes", "-r")
    install(
        python,
        (ROOT / "pyproject.toml", EMBEDDED / "pyproject.toml", constraints),
        (*hashed, tools),
        (*hashed, constraints),
        ("install", "--no-deps", "--no-build-isolation", "-e", EMBEDDED, "-e", ROOT),
        ("check",),  # says which dependency has no pin
    )


def install(python: Path, lists: Sequence[Path], *commands: Sequence[str | Path]) -> None:
    """Run commands of pip, unless the files that list the packages are as they were the last time."""
    stamp = python.parent.parent / "installed.sha256"
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in lists)).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say("installing the pinned packages")
    for command in commands:
        run(python, "-m", "pip", "--quiet", "--disable-pip-version-check", *command)
    stamp.write_text(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--requirements", type=Path, help="install the packages in this file, not the project")
    args = parser.parse_args()
    if sys.version_info[:2] not in SUPPORTED:
        sys.exit(
            f"[setup] this is Python {sys.version.split()[0]}, and 3.11, 3.12 and 3.13 are supported: "
            "choose one with `make PYTHON=python3.12 ...`"
        )
    python = make_venv(args.venv)
    try:
        install_ice(python)
        if args.requirements:
            install(python, [args.requirements], ["install", "-r", args.requirements])
        else:
            install_project(python)
    except subprocess.CalledProcessError as error:
        sys.exit(f"[setup] `{' '.join(map(str, error.cmd[:6]))} ...` failed; its message is above")
    say(f"ready: {args.venv}")


if __name__ == "__main__":
    main()
