"""The tables of all wells, put together."""
from openhcs_omero.core.tables import aggregate, read_places, read_rows, write_rows


def test_aggregate(tmp_path):
    wells = tmp_path / "wells.tsv"
    write_rows(wells, [{"well": "A02", "row": 0, "column": 1, "sites": 2},
                       {"well": "AB03", "row": 27, "column": 2, "sites": 1}], delimiter="\t")
    write_rows(tmp_path / "A02.features.csv", [
        {"plate": 7, "well": "A02", "site": 1, "spots": 3, "note": "x,y"},
        {"plate": 7, "well": "A02", "site": 2, "spots": 4, "note": "", "extra": 0.5}])
    write_rows(tmp_path / "A02.objects.csv", [{"plate": 7, "well": "A02", "site": 1, "label": 1}])
    write_rows(tmp_path / "AB03.features.csv", [{"plate": 7, "well": "AB03", "site": 1, "spots": 10}])
    write_rows(tmp_path / "AB03.objects.csv", [])
    tables = [tmp_path / name for name in ("features.csv", "wells.csv", "objects.csv")]
    aggregate(wells, tmp_path, *tables)
    features, by_well, objects = (read_rows(table) for table in tables)
    assert features[0] == {"plate": "7", "well": "A02", "row": "A", "column": "2", "site": "1", "spots": "3",
                           "note": "x,y", "extra": ""}
    assert [row["well"] for row in features] == ["A02", "A02", "AB03"] and features[2]["row"] == "AB"
    assert by_well == [
        {"plate": "7", "well": "A02", "row": "A", "column": "2", "sites": "2", "spots": "3.5", "extra": "0.5"},
        {"plate": "7", "well": "AB03", "row": "AB", "column": "3", "sites": "1", "spots": "10", "extra": ""}]
    assert objects == [{"plate": "7", "well": "A02", "row": "A", "column": "2", "site": "1", "label": "1"}]
    assert read_places(wells) == {"A02": (0, 1), "AB03": (27, 2)}


def test_no_rows_make_an_empty_file(tmp_path):
    write_rows(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_bytes() == b"" and read_rows(tmp_path / "none.csv") == []
