"""The workflow's own files: what is written is read back unchanged, and anything else is rejected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openhcs_omero.core.failures import FailedWell, Failure, has_results, read_failures, told
from openhcs_omero.core.outputs.folder import FolderWell
from openhcs_omero.core.outputs.omero import OMEROPublished, OMEROWell
from openhcs_omero.core.records import DerivedPlate, WellRecord, read_record, to_json
from openhcs_omero.core.state import PlateState
from openhcs_omero.core.well_file import open_part, read_well_record, well_file, well_files, write_well_file
from openhcs_omero.io.atomic import write
from openhcs_omero.plates.structure import ImageStructure

FAILURE = Failure("7", "A01", 2, "step 1 (m:f)", "ValueError: no cells here", "logs/process_well_A01.log")
st.register_type_strategy(float, st.floats(0.001, 1000))  # JSON has no NaN
IDS = {name: st.none() | st.integers() for name in ("image_id", "pixels_id", "well_sample_id", "update_event", "index")}
RECORDS = st.one_of(
    st.builds(WellRecord, images=st.lists(st.builds(ImageStructure, **IDS), max_size=3).map(tuple)),
    *(st.builds(kind) for kind in (FolderWell, DerivedPlate, OMEROWell, OMEROPublished, FailedWell, PlateState)),
)


@given(RECORDS)
def test_records_are_read_back_unchanged(tmp_path_factory, record):
    path = tmp_path_factory.getbasetemp() / "record.json"
    write(path, to_json(record))
    assert read_record(path, type(record)) == record


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"derived_plate": 7}',
        '{"path": "/omero/plate_7_p"}',
        '{"derived_plate": [7], "path": "x"}',
        to_json(FailedWell(FAILURE)),
        "\udcff",
    ],
)
def test_invalid_records_are_read_as_none(tmp_path, text):
    path = tmp_path / "derived.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert read_record(path, DerivedPlate) is None
    assert read_record(tmp_path / "nothing.json", DerivedPlate) is None


def test_failures_are_reported(tmp_path):
    write_well_file(well_file(tmp_path, "A01"), to_json(FailedWell(FAILURE)))
    write_well_file(well_file(tmp_path, "A02"), to_json(OMEROWell(9, ((1, "ab"),))))
    assert read_failures(tmp_path) == [FAILURE]
    assert [has_results(tmp_path, well) for well in ("A01", "A02", "A03")] == [False, True, False]
    assert told([FAILURE]).splitlines() == [
        "1 well failed; the next run processes them again.",
        "A01 of plate 7, site 2: step 1 (m:f): ValueError: no cells here (logs/process_well_A01.log)",
    ]
    assert told([FAILURE] * 7).splitlines()[-1] == "... and 2 more, listed in failed.csv" and told([]) == ""


def test_the_file_of_a_well(tmp_path):
    path, record = well_file(tmp_path, "B02"), OMEROWell(9, ((1, "ab"), (2, "cd")))
    write_well_file(path, to_json(record), features="well,x\nB02,1\n", thumbnail=b"picture")
    assert well_files(tmp_path) == {"B02": path}
    assert read_well_record(path, OMEROWell) == record and read_well_record(path, FailedWell) is None
    assert read_well_record(well_file(tmp_path, "B03"), OMEROWell) is None
    parts = {"features.csv": b"well,x\nB02,1\n", "objects.csv": b"", "thumbnail.npz": b"picture"}
    for name, content in parts.items():
        with open_part(path, name) as part:
            assert part.read() == content
    again = tmp_path / "again.zip"
    write_well_file(again, to_json(record), features="well,x\nB02,1\n", thumbnail=b"picture")
    assert again.read_bytes() == path.read_bytes()


@given(st.integers(0, 10_000), st.binary(max_size=4), st.booleans())
def test_a_damaged_file_of_a_well_is_read_as_none(tmp_path_factory, place, content, cut):
    path, record = tmp_path_factory.getbasetemp() / "damaged.zip", OMEROWell(9, ((1, "ab"),))
    write_well_file(path, to_json(record), features="x\n1\n")
    whole = path.read_bytes()
    place %= len(whole)
    path.write_bytes(whole[:place] + content + (b"" if cut else whole[place + len(content) :]))
    assert read_well_record(path, OMEROWell) in (record, None)
