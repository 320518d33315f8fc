#!/usr/bin/env python3
"""Make the virtual environment that `make demo` and `make test` run in; standard library only.

    python3 envs/bootstrap.py [--venv .venv] [--extras embedded,cluster,dev]
    python3 envs/bootstrap.py --venv .venv-web --requirements envs/web.txt      (those packages, without the project)

It does nothing where everything is there already. The one hard part is zeroc-ice 3.6.5, which omero-py needs and which
the package index has as source only: it is built once a machine (about four minutes) with the small headers in
envs/ice/, and the wheel is kept in the cache folder. A prebuilt wheel (in the cache, on the index, or in a folder that
PIP_FIND_LINKS names) is used instead where there is one.
"""
from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "packages" / "omero-embedded"
ICE_HEADERS = ROOT / "envs" / "ice" / "include"
ICE = "zeroc-ice==3.6.5"
ICE_OPTIMIZED = "-O2"  # Python's own flags don't reach a compiler that is given CXXFLAGS; answers took twice the time
SUPPORTED = ((3, 11), (3, 12), (3, 13))


def say(text: str) -> None:
    print(f"[setup] {text}", flush=True)


def cache_folder() -> Path:
    """Where the built wheels are kept, one folder a build recipe: changed headers or flags make a new wheel."""
    headers = b"".join(p.read_bytes() for p in sorted(ICE_HEADERS.iterdir()))
    recipe = hashlib.sha256(headers + ICE_OPTIMIZED.encode()).hexdigest()[:12]
    base = os.environ.get("OPENHCS_OMERO_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "openhcs_omero" / f"wheels-{recipe}"


def run(*command: str | Path, **kw) -> subprocess.CompletedProcess:
    return subprocess.run([str(part) for part in command], check=True, **kw)


def make_venv(folder: Path) -> Path:
    """The environment's python; a folder that does not hold a working one of this version is made anew."""
    python = folder / "bin" / "python"
    version = ".".join(map(str, sys.version_info[:2]))
    found = None
    if python.exists():
        found = subprocess.run([python, "-c", "import sys, pip; print('%d.%d' % sys.version_info[:2])"],
                               capture_output=True, text=True).stdout.strip()
    if found != version:
        say(f"making {folder} with Python {version}")
        try:
            venv.create(folder, clear=folder.exists(), with_pip=True, symlinks=True)
        except subprocess.CalledProcessError:
            shutil.rmtree(folder, ignore_errors=True)
            sys.exit(f"[setup] Python {version} has no venv with pip: apt-get install python{version}-venv")
    return python


def missing_for_ice(python: Path) -> list[str]:
    """The Debian packages that building Ice would need and that are not there."""
    include = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('include'))"],
                             capture_output=True, text=True, check=True).stdout.strip()
    wanted = []
    if not (shutil.which("g++") or shutil.which("c++")):
        wanted.append("g++")
    if not Path(include, "Python.h").exists():
        wanted.append(f"python{sys.version_info[0]}.{sys.version_info[1]}-dev")
    for header, package in (("openssl/ssl.h", "libssl-dev"), ("bzlib.h", "libbz2-dev")):
        if wanted[:1] == ["g++"]:
            wanted.append(package)
            continue
        probe = subprocess.run(["c++", "-E", "-x", "c++", "-"], input=f"#include <{header}>\n", text=True,
                               capture_output=True)
        if probe.returncode:
            wanted.append(package)
    return wanted


def install_ice(python: Path) -> None:
    if not subprocess.run([python, "-c", "import Ice"], capture_output=True).returncode:
        return
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--find-links", cache, ICE]
    if subprocess.run(pip, capture_output=True).returncode:
        if wanted := missing_for_ice(python):
            sys.exit(f"[setup] building Ice needs {', '.join(wanted)}: "
                     f"as root, apt-get install {' '.join(wanted)}, then run this again")
        say("building Ice for Python (once a machine, about four minutes)")
        build_ice(python, cache)
        run(*pip)
    if sys.version_info >= (3, 12):
        # Ice's Python code asks the removed module `imp` for new_module, nothing else.
        purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))",
                      capture_output=True, text=True).stdout.strip()
        shutil.copy(ROOT / "envs" / "ice" / "imp.py", purelib)
    if subprocess.run([python, "-c", "import Ice"]).returncode:
        sys.exit("[setup] Ice was installed and can't be imported; the message above says why")


def build_ice(python: Path, cache: Path) -> None:
    """Build the wheel; the log is shown only where it fails. It appears in the cache whole or not at all."""
    env = dict(os.environ)
    env["CXXFLAGS"] = f"{ICE_OPTIMIZED} {env.get('CXXFLAGS', '')} -I{ICE_HEADERS} -include {ICE_HEADERS / 'compat.h'}"
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        log = cache / "build.log"
        with log.open("w") as out:
            done = subprocess.run([python, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir",  # which knows no recipe
                                   "-w", scratch, ICE], env=env, stdout=out, stderr=subprocess.STDOUT)
        if done.returncode:
            tail = "\n".join(log.read_text().splitlines()[-30:])
            sys.exit(f"{tail}\n[setup] Ice did not build; the whole log is {log}")
        for wheel in Path(scratch).glob("*.whl"):
            os.replace(wheel, cache / wheel.name)


def install_project(python: Path, extras: str) -> None:
    """Install this folder (editable) with pinned dependencies."""
    constraints = ROOT / "envs" / "constraints.txt"
    projects = b"".join((folder / "pyproject.toml").read_bytes() for folder in (ROOT, EMBEDDED))
    state = projects + constraints.read_bytes() + extras.encode()
    install(python, state, "-c", constraints, "-e", EMBEDDED, "-e", f"{ROOT}[{extras}]")


def install(python: Path, state: bytes, *what: str | Path) -> None:
    """Install packages, unless that was done for the same state of what they come from."""
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
    parser.add_argument("--extras", default="embedded,cluster,dev")
    parser.add_argument("--requirements", type=Path, help="install the packages of this file, and not the project")
    args = parser.parse_args()
    if sys.version_info[:2] not in SUPPORTED:
        sys.exit(f"[setup] this is Python {sys.version.split()[0]}; 3.11, 3.12 and 3.13 are supported: "
                 f"make PYTHON=python3.12 ...")
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
