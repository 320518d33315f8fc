#!/usr/bin/env python3
"""Install zeroc-ice 3.6.5, which omero-py needs, for Python 3.11 to 3.13; standard library only.

    python3 envs/build_ice.py [--python .venv/bin/python]

The first of these that works is taken: an Ice that the Python can import already; the Ice of the Python that runs this
script (a conda environment, say); a wheel from the cache, the package index or a folder that PIP_FIND_LINKS names; and
last a build from source, once per machine. docs/how-to/ice.md explains the build.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent / "ice"
HEADERS = HERE / "include"
ICE = "zeroc-ice==3.6.5"
SOURCE_SHA256 = "4235ffeb605bcd4e22e716577f7d61e4aa1bc82f65276bb542701a81b7933356"
OPTIMIZED = "-O2"  # CXXFLAGS replace Python's own flags; unoptimized, calls take twice the time
CORE_SECONDS = 360  # what the build takes on one core, between 240 and 500
PYBIND11 = "pybind11>=2.13,<4"  # compiles the files of one extension side by side, which setuptools doesn't
IMPORT = "import Ice; raise SystemExit(not Ice.stringVersion().startswith('3.6.'))"


def say(text: str) -> None:
    print(f"[setup] {text}", flush=True)


def install_ice(python: Path) -> None:
    """Install Ice for a Python interpreter, unless it can import it already."""
    if imports_ice(python):
        return
    site_packages = ask(python, "import sysconfig; print(sysconfig.get_path('purelib'))")
    if sys.version_info >= (3, 12):
        # Ice's Python code uses new_module of the removed module `imp`, nothing else.
        shutil.copy(HERE / "imp.py", site_packages)
    if copy_from_this_python(python, Path(site_packages)):
        say(f"took Ice from {sys.prefix}")
        return
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    pip = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--force-reinstall",
        "--only-binary",
        ":all:",
        "--find-links",
        cache,
        ICE,
    ]
    if subprocess.run(pip, capture_output=True).returncode:
        if wanted := missing_packages(python):
            sys.exit(
                f"[setup] building Ice needs {', '.join(wanted)}: "
                f"as root, apt-get install {' '.join(wanted)}, then run this again"
            )
        build_ice(python, cache)
        subprocess.run(pip, check=True)
    if not imports_ice(python):
        subprocess.run([python, "-c", "import Ice"])
        sys.exit("[setup] Ice was installed but can't be imported; the message above says why")


def imports_ice(python: Path | str) -> bool:
    return subprocess.run([python, "-c", IMPORT], capture_output=True).returncode == 0


def ask(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def copy_from_this_python(python: Path, site_packages: Path) -> bool:
    """Copy the Ice of the Python that runs this script; whether it works in the other one."""
    if not imports_ice(sys.executable):
        return False
    try:
        files = importlib.metadata.distribution("zeroc-ice").files or []
    except importlib.metadata.PackageNotFoundError:
        return False
    for file in files:
        source = Path(str(file.locate()))
        if ".." not in file.parts and source.is_file():
            (site_packages / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, site_packages / file)
    return imports_ice(python)


def cache_folder() -> Path:
    """Folder of the built wheels, one per build recipe: changed headers or flags make a new wheel."""
    headers = b"".join(path.read_bytes() for path in sorted(HEADERS.iterdir()))
    recipe = hashlib.sha256(headers + OPTIMIZED.encode()).hexdigest()[:12]
    base = os.environ.get("OPENHCS_OMERO_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "openhcs_omero" / f"wheels-{recipe}"


def missing_packages(python: Path) -> list[str]:
    """Debian packages that the build needs and that are not installed."""
    include = ask(python, "import sysconfig; print(sysconfig.get_path('include'))")
    wanted = []
    if not (shutil.which("g++") or shutil.which("c++")):
        wanted.append("g++")
    if not Path(include, "Python.h").exists():
        wanted.append(f"python{sys.version_info[0]}.{sys.version_info[1]}-dev")
    for header, package in (("openssl/ssl.h", "libssl-dev"), ("bzlib.h", "libbz2-dev")):
        if wanted[:1] == ["g++"]:
            wanted.append(package)
            continue
        probe = subprocess.run(
            ["c++", "-E", "-x", "c++", "-"], input=f"#include <{header}>\n", text=True, capture_output=True
        )
        if probe.returncode:
            wanted.append(package)
    return wanted


def build_ice(python: Path, cache: Path) -> None:
    """Build the wheel into the cache, where it appears whole or not at all; the log is printed only if that fails."""
    cores = os.cpu_count() or 1
    say(
        f"building Ice for Python, once per machine: about {max(1, round(CORE_SECONDS / cores / 60))} min "
        f"on {cores} core{'s' if cores > 1 else ''}"
    )
    log = cache / "build.log"
    with tempfile.TemporaryDirectory(dir=cache) as scratch, log.open("w") as out:
        source = unpack(python, Path(scratch), out)
        done = subprocess.Popen(
            [python, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", scratch, source],
            env={**os.environ, "CXXFLAGS": compiler_flags()},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        show_progress(done, source)
        if done.returncode:
            tail = "\n".join(log.read_text().splitlines()[-30:])
            sys.exit(f"{tail}\n[setup] Ice did not build; the whole log is {log}")
        for wheel in Path(scratch).glob("*.whl"):
            os.replace(wheel, cache / wheel.name)


def unpack(python: Path, scratch: Path, log) -> Path:
    """Download the source and make it compile on all cores; the folder where it is.

    The headers are put into the source, from where the compiler is called: a relative path to them has no space in it,
    wherever the clone and the cache are.
    """
    pip = [python, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--dest", scratch, ICE]
    done = subprocess.run(pip, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"[setup] the source of Ice could not be downloaded; {log.name} says why")
    [archive] = scratch.glob("*.tar.gz")
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SOURCE_SHA256:
        sys.exit(f"[setup] {archive.name} is not the source of Ice that was tested: its SHA-256 is another one")
    shutil.unpack_archive(archive, scratch, filter="data")
    [source] = (path for path in scratch.iterdir() if path.is_dir())
    shutil.copytree(HEADERS, source / "compat")
    (source / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["setuptools", "{PYBIND11}"]\nbuild-backend = "setuptools.build_meta:__legacy__"\n'
    )
    setup = source / "setup.py"
    setup.write_text(
        "from pybind11.setup_helpers import ParallelCompile\nParallelCompile(default=0).install()\n" + setup.read_text()
    )
    return source


def compiler_flags() -> str:
    return f"{OPTIMIZED} {os.environ.get('CXXFLAGS', '')} -Icompat -include compat/compat.h"


def show_progress(build: subprocess.Popen, source: Path) -> None:
    """Print how many files are compiled until the build ends: in one line of a terminal, else a line every tenth."""
    total = sum(
        1
        for suffix in ("*.c", "*.cpp")
        for file in source.glob(f"src/**/{suffix}")
        if "bzip2" not in str(file.relative_to(source))
    )
    start, shown = time.monotonic(), -1
    while build.poll() is None:
        try:
            build.wait(timeout=1)
        except subprocess.TimeoutExpired:
            pass
        compiled = sum(1 for _ in source.glob("build/temp*/**/*.o"))
        line = f"[setup] Ice: {compiled} of {total} files compiled, {time.monotonic() - start:.0f} s"
        if sys.stdout.isatty():
            print(f"\r{line}", end="" if build.returncode is None else "\n", flush=True)
        elif 10 * compiled // total > shown:
            shown = 10 * compiled // total
            print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="the Python that Ice is for")
    install_ice(parser.parse_args().python)
