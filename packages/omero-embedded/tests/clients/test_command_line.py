"""The `omero` command line, as it comes with omero-py from the package index, each command a process of its own."""

from __future__ import annotations

import os
import re

import numpy as np
import omero
import pytest
import tifffile
from omero.rtypes import rint, rstring

pytestmark = pytest.mark.clients


@pytest.fixture
def image(conn) -> int:
    planes = [np.full((6, 8), number, np.uint16) for number in (7, 70, 700, 7000)]
    return conn.createImageFromNumpySeq(iter(planes), "four planes", sizeZ=2, sizeC=2, sizeT=1).getId()


@pytest.fixture
def plate(conn, image) -> int:
    """A plate of one well with the image."""
    made, well, sample = omero.model.PlateI(), omero.model.WellI(), omero.model.WellSampleI()
    made.name, well.row, well.column = rstring("plate"), rint(0), rint(0)
    sample.image = omero.model.ImageI(image, False)
    well.addWellSample(sample)
    made.addWell(well)
    return conn.getUpdateService().saveAndReturnObject(made).id.val


def test_sessions(run, conn):
    assert conn.getUser().getName() in run("sessions", "list").out
    key = run("sessions", "key").out.strip()
    assert re.fullmatch(r"[0-9a-f-]{36}", key)
    assert run("sessions", "group").out
    run("sessions", "file")
    run("logout")


def test_hql(run, conn, plate, image):
    query = "select p.name, w.row, i.id from WellSample s join s.image i join s.well w join w.plate p where p.id = %d"
    said = run("hql", "-q", "--style", "csv", query % plate)
    assert said.rows() == [["0", "plate", "0", str(image)]]
    assert run("hql", "-q", "--style", "csv", "--ids-only", f"from Image i where i.id = {image}").rows()
    listed = run("hql", "-q", "--style", "csv", "--limit", "2", "select e.value from Format e order by e.value").rows()
    assert len(listed) == 2
    run("hql", "-q", "select nothing from Nothing", status=None)


def test_objects(run, conn):
    (project,), (dataset,) = (run("obj", "new", kind, "name=made here").ids(kind) for kind in ("Project", "Dataset"))
    run("obj", "new", "ProjectDatasetLink", f"parent=Project:{project}", f"child=Dataset:{dataset}")
    assert [child.getId() for child in conn.getObject("Project", project).listChildren()] == [dataset]
    run("obj", "update", f"Dataset:{dataset}", "description=more", "name=änders")
    assert run("obj", "get", f"Dataset:{dataset}", "name").out.strip() == "änders"
    assert "description=more" in run("obj", "get", f"Dataset:{dataset}").out
    run("obj", "null", f"Dataset:{dataset}", "description")
    assert conn.getObject("Dataset", dataset).getDescription() in (None, "")
    (pairs,) = run("obj", "new", "MapAnnotation", "ns=a.namespace").ids("MapAnnotation")
    run("obj", "map-set", f"MapAnnotation:{pairs}", "mapValue", "dose", "1.5")
    assert run("obj", "map-get", f"MapAnnotation:{pairs}", "mapValue", "dose").out.strip() == "1.5"
    run("obj", "get", "Dataset:987654321", "name", status=None)


def test_delete(run, conn, plate, image):
    dry = run("delete", f"Plate:{plate}", "--dry-run", "--report").out
    assert re.search(rf"Image:{image}\b", dry) and re.search(rf"Plate:{plate}\b", dry)
    assert conn.getObject("Plate", plate) is not None
    kept = conn.createImageFromNumpySeq(iter([np.zeros((2, 2), np.uint8)]), "kept").getId()
    run("delete", f"Plate:{plate}")
    assert conn.getObject("Plate", plate) is None and conn.getObject("Image", image) is None
    assert conn.getObject("Image", kept) is not None
    run("obj", "get", f"Image:{image}", status=None)


def test_delete_keeps_what_is_excluded(run, conn, plate):
    tag = omero.gateway.TagAnnotationWrapper(conn)
    tag.setValue("kept")
    tag.save()
    conn.getObject("Plate", plate).linkAnnotation(tag)
    run("delete", f"Plate:{plate}", "--exclude", "TagAnnotation")
    assert conn.getObject("TagAnnotation", tag.getId()) is not None and conn.getObject("Plate", plate) is None


def test_change_of_group(run, conn, root, plate, image):
    group = omero.model.ExperimenterGroupI()
    group.name, group.ldap = rstring(f"of plate {plate} {conn.getUserId()}"), omero.rtypes.rbool(False)
    admin = root.c.sf.getAdminService()
    other = admin.createGroup(group)
    run("chgrp", other, f"Plate:{plate}", status=None)  # the user is no member
    admin.addGroups(omero.model.ExperimenterI(conn.getUserId(), False), [omero.model.ExperimenterGroupI(other, False)])
    assert f"Image:{image}" in run("chgrp", f"Group:{other}", f"Plate:{plate}", "--report").out
    for kind, oid in (("Plate", plate), ("Image", image)):
        found = root.c.sf.getQueryService().get(kind, oid, {"omero.group": "-1"})
        assert found.details.group.id.val == other
    assert run("sessions", "group", other).status == 0


def test_files(run, conn, tmp_path, plate):
    path = tmp_path / "up.bin"
    path.write_bytes(os.urandom(3_000_001))
    (file,) = run("upload", path).ids("OriginalFile")
    assert conn.getObject("OriginalFile", file).getSize() == 3_000_001
    run("download", f"OriginalFile:{file}", tmp_path / "down.bin")
    assert (tmp_path / "down.bin").read_bytes() == path.read_bytes()
    attached = conn.createFileAnnfromLocalFile(str(path), mimetype="application/octet-stream", ns="a.namespace")
    conn.getObject("Plate", plate).linkAnnotation(attached)
    run("download", f"FileAnnotation:{attached.getId()}", tmp_path / "attached.bin")
    assert (tmp_path / "attached.bin").read_bytes() == path.read_bytes()
    run("download", "OriginalFile:987654321", tmp_path / "none.bin", status=None)
    assert not (tmp_path / "none.bin").exists()


def test_fs(run, plate, image):
    assert run("fs", "repos", "--style", "csv").rows()
    assert run("fs", "sets", "--style", "csv").rows() == []  # nothing was imported from files
    usage = run("fs", "usage", f"Plate:{plate}", "--report").out
    assert f"{6 * 8 * 2 * 4} bytes in 1 files" in usage and "Pixels" in usage


def test_tags(run, conn, image):
    (tag,) = (int(found) for found in re.findall(r"\d+", run("tag", "create", "--name", "good", "--desc", "fine").out))
    run("tag", "link", f"Image:{image}", tag)
    assert [ann.getValue() for ann in conn.getObject("Image", image).listAnnotations()] == ["good"]
    assert "good" in run("tag", "list").out


def test_search(run, conn, image):
    other = conn.createImageFromNumpySeq(iter([np.zeros((2, 2), np.uint8)]), "something else").getId()

    def found(*words):
        rows = run("search", "--style", "csv", "--ids-only", "Image", *words).rows()
        return [int(row[-1].removeprefix("ImageI:")) for row in rows]

    assert found("planes") == [image]
    assert sorted(found("four OR else")) == [image, other]
    assert found("some*") == [other]
    run("search", "Image", "nowhere", status=None)


def test_users_and_groups(run, conn):
    users = run("user", "list", "--style", "csv").rows()
    assert {"root", conn.getUser().getName()} & {row[1] for row in users} == {"root", conn.getUser().getName()}
    groups = run("group", "list", "--style", "csv").rows()
    assert {row[1] for row in groups} >= {"user", conn.getGroupFromContext().getName()}
    assert conn.getUser().getName() in run("user", "info", "--style", "csv").out
    run("user", "add", "new", "New", "One", "--group-name", "user", "-P", "x", status=None)  # only an administrator may


def test_export(run, image, tmp_path):
    run("export", "--file", tmp_path / "out.ome.tiff", f"Image:{image}")
    with tifffile.TiffFile(tmp_path / "out.ome.tiff") as tiff:
        (series,) = tiff.series
        assert (series.axes, series.shape) == ("CZYX", (2, 2, 6, 8))
        assert series.asarray()[:, :, 0, 0].tolist() == [[7, 700], [70, 7000]]
    run("export", "--type", "XML", "--file", tmp_path / "out.ome.xml", f"Image:{image}")
    assert 'SizeX="8"' in (tmp_path / "out.ome.xml").read_text()
