"""Malicious plate maps: each gives one sentence, in bounded time and memory."""

import io
import os
import re
import zipfile

import openpyxl
import pytest

from openhcs_omero.analysis.plate_maps import MappedPlate, read_plate_map
from openhcs_omero.errors import PlateMapError
from openhcs_omero.spreadsheets import escape

PLATES = {"7": MappedPlate(("7",), 8, 12)}
SHEET = "xl/worksheets/sheet1.xml"


def refused(file, sentence):
    with pytest.raises(PlateMapError, match=sentence) as caught:
        read_plate_map(file, PLATES)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("ending", [".csv", ".xlsx"])
def test_pipes_devices_and_sparse_files(tmp_path, ending):
    """Opening a pipe would block, reading a device or a terabyte would fill the memory."""
    file = tmp_path / f"map{ending}"
    os.mkfifo(file)
    refused(file, "no regular file")
    file.unlink()
    file.symlink_to("/dev/zero")
    refused(file, "no regular file")
    file.unlink()
    with file.open("wb") as opened:
        opened.truncate(2**40)
    refused(file, "larger than 100 MB")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("well," + ",".join(f"c{number}" for number in range(100_000)), "100001 columns, more than 1000"),
        ("well,a" + " " * 50_000 + "x\nA01,1", "a name of 50002 characters"),
        ("well,concentration\nA01," + "1" * 100_000 + "x", "is not a number"),
        ("well,concentration\nA01," + "9" * 100_000, "is not a number"),
        ("well,concentration\nA01,1e999", "is not a number"),
        (",1" * 30_000 + "\n" + "A,x" * 100, "is not a plate map"),
        ("x,1,2\nA,x,y\nB,x,y\n\n" * 10_000, "more than 100 grids"),
        ("plate,well,x\n" + "".join(f"p{number}*,A01,x\n" for number in range(2_000)), "more than 1000 patterns"),
        ('well,x\nA01,"' + "y\n" * 1_000_000, "field limit"),
    ],
)
def test_texts_that_take_time(tmp_path, text, sentence):
    file = tmp_path / "map.csv"
    file.write_text(text)
    refused(file, sentence)


def excel(change):
    """The bytes of an Excel file whose parts went through `change(name, content)`."""
    book, plain, changed = openpyxl.Workbook(), io.BytesIO(), io.BytesIO()
    for row in (("well", "compound"), ("A01", "x")):
        book.active.append(row)
    book.save(plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return changed.getvalue()


def rows(count):
    return b"".join(b'<row r="%d"><c r="XFD%d"><v>1</v></c></row>' % (row, row) for row in range(3, count))


BOMB = b'<!DOCTYPE x [<!ENTITY a0 "lol">%s]>' % b"".join(
    b'<!ENTITY a%d "%s">' % (number, b"&a%d;" % (number - 1) * 20) for number in range(1, 9)
)


@pytest.mark.parametrize(
    ("part", "change", "sentence"),
    [
        ("xl/styles.xml", lambda text: text + b" " * 101_000_000, "unpacks to more than 100 MB"),
        (
            SHEET,
            lambda text: re.sub(rb"<dimension[^>]*>", b"", text).replace(b"</sheetData>", rows(1000) + b"</sheetData>"),
            "more than 5000000 cells",
        ),
        (SHEET, lambda text: BOMB + text.replace(b"<sheetData>", b"<sheetData>&a8;"), "can't be read as an Excel file"),
        (SHEET, lambda text: b"<", "can't be read as an Excel file"),
        ("xl/workbook.xml", lambda text: b"<a/>", "has no sheet with anything in it"),
        ("[Content_Types].xml", lambda text: b"<a/>", "can't be read as an Excel file"),
    ],
)
def test_malicious_excel_files(tmp_path, part, change, sentence):
    file = tmp_path / "map.xlsx"
    file.write_bytes(excel(lambda name, text: change(text) if name == part else text))
    refused(file, sentence)


def test_long_texts_are_escaped_quickly():
    assert escape("1" * 1_000_000 + "x") == "1" * 1_000_000 + "x"
