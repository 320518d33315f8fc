"""Plates with random holes: every origin gives the same tables, or names the same wells."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from plate_folders import images_of, write_imagexpress
from test_plates_as_they_come import FORMATS, lose, write_tiffs

from openhcs_omero.core.config import read_config
from openhcs_omero.core.inspection import look, prepare
from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.core.rules import derive, process_well, put_together
from openhcs_omero.core.state import list_wells
from openhcs_omero.core.well_file import MANIFEST, well_file
from openhcs_omero.errors import PlateError
from openhcs_omero.microscopes.detect import handler_of

IMAGES = images_of(["A01", "B02", "C03"], sites=3, shape=(2, 2, 2, 3, 4))
HOLES = [(place, plane) for place in IMAGES for plane in np.ndindex(2, 2, 2)]
CHOICES = st.sampled_from(["error", "skip", "fill"])
TABLES = ("features", "wells", "objects", "columns", "failed")


@pytest.fixture(scope="module", autouse=True)
def no_workers():
    """The step below is not importable by worker processes, and there are none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openhcs_omero.core.inspection.check_workers", lambda steps: None)
        yield


def measure(image, filemanager, metadata, backend="disk"):
    """The mean of each channel, and how many planes were not acquired."""
    means = {f"mean_c{c}": [float(part[c].mean()) for part in image] for c in range(image.shape[1])}
    return image, {**means, "filled": len(metadata["filled"]), "objects": [{"area": int(image.max())}]}


def tables_of(folder, incomplete, results):
    """The tables of a folder, without Snakemake; or the names of the incomplete wells, where they stop the run."""
    config = {
        "plates": [{"path": str(folder), "incomplete": incomplete}],
        "steps": [{"call": f"{__name__}:measure"}],
        "results": str(results),
    }
    chosen = read_config(config)
    try:
        plan = look(config, prepare)
    except PlateError as error:
        return str(error).partition(": ")[2].partition(";")[0]
    folder, label = chosen.folder("plate"), "plate"
    derive(chosen, label, folder / "derived.json")
    for well in plan.wells(label):
        process_well(chosen, label, well, folder / "derived.json", [], well_file(folder, well), Path("log"))
    list_wells(folder / "wells.tsv")
    tables = {name: folder / f"{name}.csv" for name in TABLES}
    put_together(chosen, label, folder / "wells.tsv", {**tables, "manifest": folder / MANIFEST})
    return {name: (folder / f"{name}.csv").read_bytes() for name in TABLES}, plan.states[label].skipped


def holed(kind, folder, lost):
    """A plate named `plate` as a microscope writes it, without the planes `lost`."""
    folder.mkdir(parents=True)
    path = {**FORMATS, "tiffs": write_tiffs}[kind](folder / "plate", IMAGES)
    files = handler_of(path).listing(path).files
    for place, plane in lost:
        lose(files[place][plane])
    return path


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
        kind: tables_of(holed(kind, tmp_path / kind, lost), incomplete, tmp_path / f"{kind} results")
        for kind in (*FORMATS, "tiffs")
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
    tables_of(path, "skip", tmp_path / "results")
    rows = read_rows(tmp_path / "results" / "plate_plate_processed" / "wells.csv")
    words = "timepoint 2 (as the files number them); channel 2 (as the files number them)"
    assert {row["skipped_planes"] for row in rows} == {words} and [row["t"] for row in rows] == ["0", "1"] * 2
