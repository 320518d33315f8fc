#!/usr/bin/env python3
"""Write the hashes of all pinned packages into envs/constraints.txt, for `make setup` to check; standard library only.

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

CONSTRAINTS = Path(__file__).resolve().parent / "constraints.txt"
UV = "uv==0.13.9"


def main() -> None:
    pins = read_pins(CONSTRAINTS.read_text())
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, UV], check=True)
        plain = Path(folder, "pins.txt")
        plain.write_text("".join(f"{pin}\n" for pin in pins))
        command = [Path(folder, "bin", "uv"), "pip", "compile", "--quiet", "--no-deps", "--generate-hashes"]
        options = ["--no-header", "--no-annotate", "--python-version", "3.11.9"]
        done = subprocess.run([*command, *options, plain], check=True, stdout=subprocess.PIPE, text=True)
    lines = re.sub(r" \\\n +", " ", done.stdout).splitlines()
    names = {normalized(pin): pin for pin in pins}
    CONSTRAINTS.write_text("".join(f"{names[normalized(line)]} {line.partition(' ')[2]}\n" for line in lines))


def read_pins(text: str) -> list[str]:
    """The pins in a file, with or without hashes, sorted."""
    pins = {}
    for line in text.splitlines():
        pin = line.partition("#")[0].partition(" ")[0]
        if pin and pins.setdefault(normalized(pin), pin) != pin:
            sys.exit(f"{CONSTRAINTS} pins {pins[normalized(pin)]} and {pin}: delete one of them")
    return [pins[name] for name in sorted(pins)]


def normalized(pin: str) -> str:
    """The name of a pinned package, which may be written in several ways."""
    return re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower()


if __name__ == "__main__":
    main()
