"""Plates that were imaged several times, and what a derived plate takes over from its source."""

import numpy as np
import pytest
from omero.model import (
    ImageI,
    LengthI,
    PlateAcquisitionI,
    PlateI,
    WellI,
    WellSampleI,
)
from omero.model.enums import UnitsLength
from omero.rtypes import rint, rstring, rtime, unwrap
from snake import workflow
from wire import block

from openhcs_omero.core.figures import load_thumbnails
from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.core.well_file import well_file
from openhcs_omero.omero import queries
from openhcs_omero.omero.derived import find_derived
from openhcs_omero.omero.pixels import read_metadata, read_positions, read_site
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.writing import write_well_images
from openhcs_omero.plates.image import Acquired, AcquiredPlane, NewImage

__all__ = ["workflow"]

SHAPE = (2, 2, 1, 4, 6)
START = 1_700_000_000_000  # milliseconds
STEPS = [{"call": "looking:look"}]
LOOK = """
def look(image, filemanager, metadata, backend="disk"):
    assert metadata["plate_estimate"][0].flat[0] == metadata["plate_estimate"][1].flat[0] - {"day 1": 1, "day 2": 101}[
        metadata["acquisition"]]
    return image + 1, {"mean": [float(timepoint.mean()) for timepoint in image], "objects": [{"area": 1}]}


look.plate_estimate = lambda planes: min(plane.min() for plane in planes) * __import__("numpy").ones((2, 2))
"""


def acquired(site):
    micrometers = (float(site), "MICROMETER")
    planes = [
        AcquiredPlane(t, c, 0, (10.0 * t + c + 0.5, "SECOND"), (20.0, "MILLISECOND"), (micrometers, None, micrometers))
        for t in range(2)
        for c in range(2)
    ]
    return Acquired(START + site, (10.0, "SECOND"), planes=tuple(planes))


@pytest.fixture
def everything(conn):
    """A plate of 1536 wells, imaged twice, with all that OMERO can store about it; one image is in two wells."""
    group = queries.current_group(conn)
    images = []
    for number in range(6):
        day = number % 3  # 0 is the first day, others the second
        pixels = block(0, SHAPE) % 7 + (100 if day else 0)
        pixels[:, 1] += 101 if day else 1
        images.append(
            NewImage(
                f"image {number}", pixels, ("DAPI", "µ 🧪"), ((0, 0, 255), None), (None, 0.5, 0.25),
                acquired=acquired(number),
            )
        )  # fmt: skip
    ids = [image.image_id for image in write_well_images(conn, images, "test", group)]
    plate = PlateI()
    plate.name, plate.description = rstring("every thing"), rstring("all of it")
    plate.rowNamingConvention, plate.columnNamingConvention = rstring("number"), rstring("letter")
    plate.rows, plate.columns = rint(32), rint(48)
    plate.wellOriginX = LengthI(3.5, UnitsLength.MILLIMETER)
    runs = []
    for number in (1, 2):
        run = PlateAcquisitionI()
        run.name, run.startTime, run.endTime = rstring(f"day {number}"), rtime(START + number), rtime(START + 9)
        plate.addPlateAcquisition(run)
        runs.append(run)
    for place, mine in {(0, 0): ids[:3], (31, 47): [ids[0], *ids[4:]], (3, 3): []}.items():
        well = WellI()
        well.row, well.column = map(rint, place)
        well.type, well.red, well.green, well.blue, well.alpha = (
            rstring("control"),
            *map(rint, (255, 128, place[0], 200)),
        )
        for number, image in enumerate(mine):
            sample = WellSampleI()
            sample.image, sample.plateAcquisition = ImageI(image, False), runs[number > 0]
            sample.posX, sample.posY = (
                LengthI(5.0 + number, UnitsLength.REFERENCEFRAME),
                LengthI(-1.5, UnitsLength.MICROMETER),
            )
            well.addWellSample(sample)
        plate.addWell(well)
    return queries.update(conn).saveAndReturnObject(plate).id.val


def about(conn, plate_id):
    """Everything about a plate that a derived plate takes over."""
    structure = load_plate(conn, plate_id)
    loaded = queries.query(conn).get("Plate", plate_id)
    wells = queries.rows(
        conn,
        "select w.row, w.column, w.type, w.red, w.green, w.blue, w.alpha from Well w join w.wellSamples ws "
        "where w.plate.id = :id and index(ws) = 0 order by w.row",
        id=plate_id,
    )
    runs = queries.rows(
        conn,
        "select pa.name, pa.startTime, pa.endTime from PlateAcquisition pa where pa.plate.id = :id order by pa.name",
        id=plate_id,
    )
    images = [image for _, image in structure.images()]
    metadata, positions = read_metadata(conn, images, all_planes=True), read_positions(conn, images)
    return {
        "plate": [
            unwrap(getattr(loaded, name))
            for name in ("description", "rowNamingConvention", "columnNamingConvention", "rows", "columns")
        ],
        "origin": (loaded.wellOriginX.getValue(), loaded.wellOriginX.getUnit()),
        "wells": wells,
        "runs": runs,
        "sites": [
            (
                well,
                image.site,
                image.name,
                image.acquisition[1],
                positions[image.well_sample_id],
                metadata[image.image_id],
            )
            for well, image in structure.images()
        ],
    }


@pytest.mark.slow
def test_all_acquisitions_and_everything_else(workflow, conn, everything):
    """The derived plate is the source again but for the pixels; no table mixes acquisitions."""
    (workflow.folder / "looking.py").write_text(LOOK)
    workflow.configure({"path": everything, "acquisition": "all"}, steps=STEPS)
    workflow.succeed()
    derived = find_derived(conn, everything, "processed")
    source, made = about(conn, everything), about(conn, derived)
    assert source["sites"][1][5].recorded.planes and source["sites"][0][5].times == (0.5, 10.5)
    assert made == source
    plates = load_plate(conn, everything), load_plate(conn, derived)
    for (_, image), (_, other) in zip(*(plate.images() for plate in plates), strict=True):
        np.testing.assert_array_equal(read_site(conn, other), read_site(conn, image) + 1)

    results = workflow.results(everything)
    features, wells = read_rows(results / "features.csv"), read_rows(results / "wells.csv")
    assert list(features[0]) == ["plate", "well", "row", "column", "acquisition", "site", "t", "time_s", "mean"]
    assert [(row["well"], row["acquisition"], row["site"], row["t"]) for row in features[:6]] == [
        ("A01", run, site, t) for run, site in (("day 1", "1"), ("day 2", "2"), ("day 2", "3")) for t in "01"
    ]
    assert [(row["well"], row["acquisition"], row["t"], row["sites"]) for row in wells] == [
        (well, run, t, sites)
        for well in ("A01", "AF48")
        for run, sites in (("day 1", "1"), ("day 2", "2"))
        for t in "01"
    ]
    for row in wells:
        assert (float(row["mean"]) > 50) is (row["acquisition"] == "day 2")
    assert {row["acquisition"] for row in read_rows(results / "objects.csv")} == {"day 1", "day 2"}
    assert any(row["column"] == "acquisition" for row in read_rows(results / "columns.csv"))
    assert {image.acquisition[1] for image in load_thumbnails(well_file(results, "A01"))} == {"day 1", "day 2"}
    assert {path.name for path in (results / "figures/heatmaps").glob("*.png")} == {
        "mean_acquisition_1.png",
        "mean_acquisition_2.png",
    }
    tables = [
        row[0]
        for row in queries.rows(
            conn,
            "select f.name from FileAnnotation a join a.file f, PlateAnnotationLink l where l.child.id = a.id "
            "and l.parent.id = :id and f.mimetype = :type",
            id=everything,
            type="OMERO.tables",
        )
    ]
    assert any("wells.csv" in name for name in tables) and any("features.csv" in name for name in tables)
    assert workflow.succeed().nothing_done

    workflow.configure({"path": everything, "acquisition": "day 2"}, steps=STEPS)
    workflow.succeed()
    again = about(conn, derived)
    assert [run[0] for run in again["runs"]] == ["day 2"]
    assert [site[2:] for site in again["sites"]] == [site[2:] for site in source["sites"] if site[3] == "day 2"]
    assert {row["acquisition"] for row in read_rows(results / "features.csv")} == {"day 2"}
    assert images_in_table(conn, everything) == [
        image.image_id for _, image in plates[0].images() if image.acquisition[1] == "day 2" for t in range(2)
    ]
    assert workflow.succeed().nothing_done


def images_in_table(conn, plate_id):
    """The images that the OMERO.table of features of a plate refers to."""
    [file] = queries.rows(
        conn,
        "select f.id from FileAnnotation a join a.file f, PlateAnnotationLink l where l.child.id = a.id "
        "and l.parent.id = :id and f.mimetype = :type and f.name like :name",
        id=plate_id,
        type="OMERO.tables",
        name="processed_features.csv%",
    )
    table = conn.c.sf.sharedResources().openTable(queries.query(conn).get("OriginalFile", file[0]))
    number = [column.name for column in table.getHeaders()].index("Image")
    values = table.read([number], 0, table.getNumberOfRows()).columns[0].values
    table.close()
    return list(values)
