"""Plates with random holes: every origin gives the same tables, or names the same wells."""

import pytest
from holes import EVERY, HOLES, holed, tables_of
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from plate_folders import images_of, write_imagexpress

from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.errors import PlateError

CHOICES = st.sampled_from(["error", "skip", "fill"])


@pytest.fixture(scope="module", autouse=True)
def no_workers():
    """The step below is not importable by worker processes, and there are none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openhcs_omero.core.inspection.check_workers", lambda steps: None)
        yield


def outcome(folder, incomplete, results):
    """The tables of a folder; or the names of the incomplete wells, where they stop the run."""
    try:
        return tables_of({"path": str(folder), "incomplete": incomplete}, results)
    except PlateError as error:
        text = str(error)
        return text.partition(": ")[2].partition(";")[0] if "no site of" not in text else "no site of it is complete"


@given(lost=st.sets(st.sampled_from(HOLES), min_size=1, max_size=6), incomplete=CHOICES)
@settings(max_examples=2, deadline=None, phases=[Phase.generate])
def test_random_holes_give_the_same_tables(tmp_path_factory, lost, incomplete):
    compare(tmp_path_factory.mktemp("holes"), lost, incomplete)


@pytest.mark.slow
@given(lost=st.sets(st.sampled_from(HOLES), min_size=1, max_size=30), incomplete=CHOICES)
@settings(max_examples=40, deadline=None, phases=[Phase.generate])
def test_many_random_holes_give_the_same_tables(tmp_path_factory, lost, incomplete):
    compare(tmp_path_factory.mktemp("holes"), lost, incomplete)


def compare(tmp_path, lost, incomplete):
    found = {
        kind: outcome(holed(kind, tmp_path / kind, lost), incomplete, tmp_path / f"{kind} results") for kind in EVERY
    }
    wells = {well for (well, _), _ in lost}
    if incomplete == "error":
        assert found["tiffs"].startswith(f"well {min(wells)} lacks files of site ")
        assert len({text.partition(" lacks ")[0] for text in found.values()}) == 1
        return
    assert all(plate == found["tiffs"] for plate in found.values()), found
    if isinstance(found["tiffs"], str):  # no site is complete
        return
    rows = read_rows(tmp_path / "tiffs results" / "plate_plate_processed" / "wells.csv")
    if incomplete == "skip":
        skipped = {well: {site for (other, site), _ in lost if other == well} for well in wells}
        told = {row["well"]: row.get("skipped_sites", "") for row in rows}
        for well, text in told.items():
            assert text == " ".join(map(str, sorted(skipped.get(well, ()))))
    else:
        assert {row["well"] for row in rows if float(row["filled"])} == wells


def test_what_no_site_has_is_in_a_column(tmp_path):
    """The metadata announce a second channel and a second timepoint, and no file has them."""
    path = write_imagexpress(tmp_path / "plate", images_of(["A01", "B02"], shape=(3, 3, 1, 3, 4)), guids=False)
    for file in [*path.glob("TimePoint_2/*"), *path.glob("**/*_w2.TIF")]:
        file.unlink(missing_ok=True)
    tables_of({"path": str(path), "incomplete": "skip"}, tmp_path / "results")
    rows = read_rows(tmp_path / "results" / "plate_plate_processed" / "wells.csv")
    words = "timepoint 2 (as the files number them); channel 2 (as the files number them)"
    assert {row["skipped_planes"] for row in rows} == {words} and [row["t"] for row in rows] == ["0", "1"] * 2
