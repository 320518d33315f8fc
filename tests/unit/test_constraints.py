"""Every package of `make setup` is pinned, with hashes of its files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ENVS = Path(__file__).parents[2] / "envs"
LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==[^\s;]+( --hash=sha256:[0-9a-f]{64})+")


def test_every_pin_has_hashes():
    lines = (ENVS / "constraints.txt").read_text().splitlines()
    assert len(lines) > 100
    wrong = [line[:80] for line in lines if not LINE.fullmatch(line)]
    assert not wrong, f"{wrong}: run `python3 envs/lock.py`"
    names = [re.sub("[-_.]+", "-", LINE.fullmatch(line)[1]).lower() for line in lines]
    assert names == sorted(set(names)) and "setuptools" in names


def test_every_pin_of_omero_web_has_hashes():
    lines = [line for line in (ENVS / "web.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 20 and all(LINE.fullmatch(line) for line in lines)


@pytest.mark.parametrize("pins", ["a_b==1\na-b==2\n", "a==1 --hash=sha256:0\nA==2\n"])
def test_two_versions_of_a_package_are_refused(pins):
    code = "import sys; sys.path.insert(0, sys.argv[1]); import lock; lock.read_pins(sys.argv[2])"
    done = subprocess.run([sys.executable, "-c", code, ENVS, pins], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.endswith("delete one of them\n")
