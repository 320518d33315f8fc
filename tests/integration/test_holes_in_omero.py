"""A folder with random holes and the plate that is imported from it give the same tables, byte for byte."""

import pytest
from holes import EVERY, HOLES, TABLES, as_imported, holed, tables_of
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from openhcs_omero.errors import PlateError
from openhcs_omero.microscopes.importing import import_folder
from openhcs_omero.omero.connection import close_all

CASES = {
    "kind": st.sampled_from([*EVERY]),
    "lost": st.sets(st.sampled_from(HOLES), min_size=1, max_size=8),
    "incomplete": st.sampled_from(["skip", "fill"]),
}


@pytest.fixture
def user(conn, omero_server, monkeypatch):
    """The settings with which a run logs in as the user of `conn`; there are no worker processes."""
    monkeypatch.setattr("openhcs_omero.core.inspection.check_workers", lambda steps: None)
    monkeypatch.setenv("OMERO_PASSWORD", "pw")
    yield {"host": omero_server.host, "port": omero_server.port, "user": conn.getUser().getName()}
    close_all()


@given(**CASES)
@settings(max_examples=2, phases=[Phase.generate])
def test_holes_give_the_same_tables_in_omero(conn, user, tmp_path_factory, kind, lost, incomplete):
    compare(conn, user, tmp_path_factory.mktemp("holes"), kind, lost, incomplete)


@pytest.mark.slow
@given(**CASES)
@settings(max_examples=40, phases=[Phase.generate])
def test_many_holes_give_the_same_tables_in_omero(conn, user, tmp_path_factory, kind, lost, incomplete):
    compare(conn, user, tmp_path_factory.mktemp("holes"), kind, lost, incomplete)


def compare(conn, user, tmp_path, kind, lost, incomplete):
    folder = holed(kind, tmp_path / "folder", lost)
    with pytest.raises(PlateError, match=f"well {min(well for (well, _), _ in lost)} lacks files of site ") as of_run:
        tables_of({"path": str(folder), "incomplete": "error"}, tmp_path / "results")
    with pytest.raises(PlateError) as of_import:
        import_folder(conn, folder)
    assert str(of_import.value) == str(of_run.value)
    if incomplete == "skip" and len({place for place, _ in lost}) == 9:  # no site is complete
        with pytest.raises(PlateError):
            import_folder(conn, folder, incomplete=incomplete)
        return
    tables, _ = tables_of({"path": str(folder), "incomplete": incomplete}, tmp_path / "results")
    plate = import_folder(conn, folder, incomplete=incomplete)
    found, skipped = tables_of(plate, tmp_path / "results", omero=user)
    assert not skipped
    for name in TABLES:
        assert found[name] == as_imported(tables[name], plate), name
