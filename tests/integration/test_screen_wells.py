"""Several plates of a screen in OMERO: the table of all wells, where it is attached, and what goes with the plates."""

import pyarrow.parquet as pq
import pytest
from snake import workflow
from test_deletion import command
from test_selection import make_screen
from wire import make_plate

from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import list_texts, read_text
from openhcs_omero.omero.browsing import list_screens
from openhcs_omero.omero.derived import find_derived

__all__ = ["command", "workflow"]

NAME = "screen_wells.csv"


def screens(conn):
    """Plates and attached files of each screen, by name."""
    return {
        screen.name: (
            [plate.plate_id for plate in screen.plates],
            [text.name for text in list_texts(conn, "Screen", screen.screen_id)],
        )
        for screen in list_screens(conn)
        if screen.screen_id is not None
    }


def test_the_wells_of_all_plates_are_in_one_table_on_the_screens(workflow, conn, command):
    plates = [make_plate(conn, {"A01": 1, "A02": 1}) for _ in range(2)]
    screen = make_screen(conn, "Assay A", plates)
    (workflow.folder / "map.csv").write_text("well,compound\nA01,007\nA02,=aspirin\n")
    entries = [{"path": plates[0], "plate_map": "map.csv"}, plates[1]]
    workflow.configure(*entries)
    workflow.succeed()
    folder = workflow.folder / "results" / "screen_processed"
    rows = read_rows(folder / NAME)
    assert [(row["plate"], row["well"]) for row in rows] == [
        (str(plate), well) for plate in plates for well in ("A01", "A02")
    ]
    for plate in plates:  # each row as in the plate's own table; columns of one map are empty for the other plate
        own = read_rows(workflow.results(plate) / "wells.csv")
        assert own == [{key: row[key] for key in own[0]} for row in rows if row["plate"] == str(plate)]
    assert [row["compound"] for row in rows] == ["007", "=aspirin", "", ""]
    table = pq.read_table(folder / "screen_wells.parquet")
    assert table["compound"].to_pylist() == ["007", "=aspirin", None, None]
    unit = pq.read_schema(workflow.results(plates[0]) / "wells.parquet").field("bright")
    assert table.schema.field("bright").equals(unit, check_metadata=True)

    derived = [find_derived(conn, plate, "processed") for plate in plates]
    there = {"Assay A": (plates, [f"processed_{NAME}"]), "Assay A [processed]": (derived, [NAME])}
    assert screens(conn) == there
    data = (folder / NAME).read_bytes()
    assert read_text(conn, "Screen", screen, f"processed_{NAME}") == data
    shown = command("delete", "plate_*_processed", "--dry-run")
    assert shown.exit_code == 0 and screens(conn) == there
    assert all(f"plate {plate}," in shown.output for plate in derived)
    assert command("delete", f"plate_{plates[0]}_processed", "--yes").exit_code == 0
    assert screens(conn) == {**there, "Assay A [processed]": (derived[1:], [NAME])}
    assert command("delete", "/omero/plate_*_processed", "--yes").exit_code == 0
    assert screens(conn) == {"Assay A": (plates, [])}
    refused = command("delete", "plate_*_processed", "--yes")
    assert refused.exit_code == 1 and "you have no derived plate like /omero/plate_*_processed" in refused.output


@pytest.mark.slow
def test_a_table_that_was_deleted_is_attached_again(workflow, conn):
    plates = [make_plate(conn, {"A01": 1}) for _ in range(2)]
    screen = make_screen(conn, "Assay A", plates)
    workflow.configure(*plates)
    workflow.succeed()
    there = screens(conn)
    assert workflow.succeed().nothing_done

    [text] = list_texts(conn, "Screen", screen)
    queries.delete(conn, queries.current_group(conn), FileAnnotation=[text.annotation_id])
    assert set(workflow.succeed().jobs) == {"annotate_screen", "all"} and screens(conn) == there
