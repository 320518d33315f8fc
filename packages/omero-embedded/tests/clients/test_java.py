"""Ice for Java, which OMERO's Java clients are made with: it logs in and reads a plate.

Ice's Java classes come from the index of Java packages. OMERO's own ones are not on it, and so not tested.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from omero_embedded import site_pixels

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(not (shutil.which("javac") and shutil.which("mvn")), reason="needs a JDK and Maven"),
]
SOURCE = Path(__file__).with_name("ReadPlate.java")


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> str:
    """The class path of the compiled program."""
    folder = tmp_path_factory.mktemp("java")
    artifact = "-Dartifact=com.zeroc:glacier2:3.6.5"  # with com.zeroc:ice
    subprocess.run(["mvn", "-q", "-B", f"-Dmaven.repo.local={folder}/jars", "dependency:get", artifact], check=True)
    path = ":".join(map(str, [*folder.glob("jars/com/zeroc/**/*.jar"), folder]))
    subprocess.run(["javac", "-nowarn", "-cp", path, "-d", folder, SOURCE], check=True)
    return path


def test_ice_for_java_reads_a_plate(classes, omero_server, omero_user, omero_gateway):
    plate = omero_server.make_plate(omero_gateway, rows=1, columns=2, sites=2)
    where = (omero_server.host, str(omero_server.port), omero_user.name, str(plate))
    done = subprocess.run(
        ["java", "-cp", classes, "ReadPlate", *where], input=omero_user.password, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["0", str(column), site_pixels(0, column, site, (1, 1, 1, 16, 16), "uint16").astype(">u2").tobytes().hex()]
        for column in range(2)
        for site in range(2)
    ]
