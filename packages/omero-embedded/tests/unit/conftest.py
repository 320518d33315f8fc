"""What the unit tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The store that the tests of HQL ask, without a server."""
    import hql_store

    made = hql_store.made_store(tmp_path_factory.mktemp("store"))
    yield made
    made.close()
