"""A Slurm, an OMERO server and a plate for the tests marked `slurm`."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, Unavailable
from slurm_project import Omero, Project

from openhcs_omero.processing.synthetic import Screen, sites, write_plate


@pytest.fixture(scope="session")
def slurm(tmp_path_factory) -> Iterator[SlurmCluster]:
    """A running Slurm of one node; the test is skipped where Slurm can't run."""
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def omero(slurm, tmp_path_factory) -> Iterator[Omero]:
    server = Omero(tmp_path_factory.mktemp("omero"), f"secret-{secrets.token_hex(12)}")
    server.start()
    yield server
    server.stop()


SCREEN = Screen(rows=2, columns=4, sites=2, size=128)


@pytest.fixture(scope="session")
def make_plate(omero, tmp_path_factory) -> Callable[[], int]:
    """`make_plate()` returns the id of a plate of 8 wells with 2 sites and 2 channels, all with different pixels."""
    from openhcs_omero.microscopes.importing import import_folder

    folder = tmp_path_factory.mktemp("images")
    write_plate(folder, SCREEN)

    def make() -> int:
        conn = omero.login()
        try:
            return import_folder(conn, folder, "Slurm screen")
        finally:
            conn.close()

    return make


@pytest.fixture(scope="session")
def plate(make_plate) -> int:
    return make_plate()


@pytest.fixture
def project(slurm, omero, plate, tmp_path_factory) -> Iterator[Callable[..., Project]]:
    """`project(name, **params)` makes a folder to run in; at the end none of its jobs are left."""
    made: list[Project] = []

    def make(name: str, wells: list[str] | str = "all", gated: bool = False, **params) -> Project:
        folder: Path = tmp_path_factory.mktemp("projects") / name
        gate = {"gate": str(folder / "gate")} if gated else {}
        made.append(Project(folder, omero, plate, wells, **gate, **params))
        return made[-1]

    yield make
    for each in made:
        each.open_gate()
    slurm.run("scancel", "--user", "root", check=False)
    slurm.wait(lambda: not slurm.states(), 180, "the jobs to end")


@pytest.fixture(scope="session")
def undisturbed() -> dict[str, list[str]]:
    """The expected derived plate, computed without OMERO and Snakemake: SHA-1 of the pixels of each site, by well."""
    wells: dict[str, list[str]] = {}
    for truth, image in sites(SCREEN):
        wells.setdefault(truth.well, []).append(hashlib.sha1((image.max() - image).astype(">u2").tobytes()).hexdigest())
    assert len(wells) == 8 and len({sha1 for well in wells.values() for sha1 in well}) == 16
    return wells
