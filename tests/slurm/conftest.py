"""A Slurm for the tests that are marked `slurm`."""
from __future__ import annotations

from collections.abc import Iterator

import pytest
from slurm_cluster import SlurmCluster, Unavailable


@pytest.fixture(scope="session")
def slurm(tmp_path_factory) -> Iterator[SlurmCluster]:
    """A running Slurm of one node; the test is skipped where there can't be one."""
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield cluster
    cluster.stop()
