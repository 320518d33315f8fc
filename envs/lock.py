#!/usr/bin/env python3
"""Write the hashes of all pinned packages into the lists of `make setup` and `make setup-web`; standard library only.

    python3 envs/lock.py

Run it after you added or changed a pin, `name==version` on a line of its own. A line has the hashes of all files of a
version, for every Python and platform, as the package index lists them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

LISTS = [Path(__file__).resolve().parent / name for name in ("constraints.txt", "web.txt")]
UV = "uv==0.13.9"


def main() -> None:
    for file in LISTS:
        lock(file)


def lock(file: Path) -> None:
    """Write the hashes into a file; comments at its beginning stay."""
    text = file.read_text()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    pins = read_pins(text)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, UV], check=True)
        plain = Path(folder, "pins.txt")
        plain.write_text("".join(f"{pin}\n" for pin in pins))
        command = [Path(folder, "bin", "uv"), "pip", "compile", "--quiet", "--no-deps", "--generate-hashes"]
        options = ["--no-header", "--no-annotate", "--python-version", "3.11.9"]
        done = subprocess.run([*command, *options, plain], check=True, stdout=subprocess.PIPE, text=True)
    lines = re.sub(r" \\\n +", " ", done.stdout).splitlines()
    names = {normalized(pin): pin for pin in pins}
    locked = [f"{names[normalized(line)]} {line.partition(' ')[2]}" for line in lines]
    file.write_text("".join(f"{line}\n" for line in [*comments, *locked]))


def read_pins(text: str) -> list[str]:
    """The pins in a file, with or without hashes, sorted."""
    pins = {}
    for line in text.splitlines():
        pin = line.partition("#")[0].partition(" ")[0]
        if pin and pins.setdefault(normalized(pin), pin) != pin:
            sys.exit(f"{pins[normalized(pin)]} and {pin} are pinned: delete one of them")
    return [pins[name] for name in sorted(pins)]


def normalized(pin: str) -> str:
    """The name of a pinned package, which may be written in several ways."""
    return re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower()


if __name__ == "__main__":
    main()
