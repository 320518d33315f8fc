#!/usr/bin/env python3
"""Set up the virtual environment of `make demo` and `make test`; standard library only.

    python3 envs/bootstrap.py [--venv .venv] [--extras embedded,cluster,profiles,s3,dev,docs]
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


def install_project(python: Path, extras: str) -> None:
    """Install this folder (editable) with pinned dependencies."""
    constraints = ROOT / "envs" / "constraints.txt"
    read = (ROOT / "pyproject.toml", EMBEDDED / "pyproject.toml", constraints)
    state = b"".join(path.read_bytes() for path in read) + extras.encode()
    install(python, state, "-c", constraints, "-e", EMBEDDED, "-e", f"{ROOT}[{extras}]")


def install(python: Path, state: bytes, *what: str | Path) -> None:
    """Install packages, unless they were installed from the same state of the files that list them."""
    stamp = python.parent.parent / "installed.sha256"
    wanted = hashlib.sha256(state).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say("installing the pinned packages")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what)
    stamp.write_text(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--extras", default="embedded,cluster,profiles,s3,dev,docs")
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
            install(python, args.requirements.read_bytes(), "-r", args.requirements)
        else:
            install_project(python, args.extras)
    except subprocess.CalledProcessError as error:
        sys.exit(f"[setup] `{' '.join(map(str, error.cmd[:6]))} ...` failed; its message is above")
    say(f"ready: {args.venv}")


if __name__ == "__main__":
    main()
