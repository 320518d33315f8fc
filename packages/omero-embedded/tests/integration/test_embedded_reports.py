"""How much disk space objects take, as `omero fs usage` asks it, and what is known of the original files."""

from __future__ import annotations

import io

import numpy as np
import omero
import pytest
from models import new, ref, run, save


@pytest.fixture
def usage(conn):
    """`usage(Plate=[1])`: bytes by what has them, and the number of files."""

    def ask(*classes: str, **targets) -> tuple[dict, int]:
        handle = conn.c.sf.submit(omero.cmd.DiskUsage2(targetObjects=targets, targetClasses=list(classes)))
        answer = conn._waitOnCmd(handle, failontimeout=True).getResponse()
        handle.close()
        assert set(answer.bytesUsedByReferer) == set(answer.totalBytesUsed) == set(answer.totalFileCount)
        whose = {(one.first, one.second) for one in answer.totalBytesUsed}
        assert whose <= {(conn.getUserId(), conn.getGroupFromContext().getId())}
        (sizes,) = answer.bytesUsedByReferer.values() if whose else [{}]
        assert sum(sizes.values()) == sum(answer.totalBytesUsed.values())
        return sizes, sum(answer.totalFileCount.values())

    return ask


def test_disk_usage(conn, make_user, usage, tmp_path):
    images = [
        conn.createImageFromNumpySeq(iter([np.zeros((5, 7), np.uint16)] * 2), f"image {number}", sizeZ=2)
        for number in range(2)
    ]
    sample = new("WellSample", image=ref("Image", images[0].getId()))
    well = new("Well", row=0, column=0)
    well.addWellSample(sample)
    plate = new("Plate", name="plate")
    plate.addWell(well)
    plate = save(conn, plate).id.val
    assert usage(Plate=[plate]) == ({"Pixels": 140}, 1)
    assert usage(Image=[image.getId() for image in images]) == usage("Image") == ({"Pixels": 280}, 2)
    (tmp_path / "a.csv").write_bytes(b"x" * 33)
    attached = conn.createFileAnnfromLocalFile(str(tmp_path / "a.csv"))
    conn.getObject("Plate", plate).linkAnnotation(attached)
    assert usage(Plate=[plate]) == ({"Pixels": 140, "FileAnnotation": 33}, 2)
    assert usage(Experimenter=[conn.getUserId()]) == ({"Pixels": 280, "FileAnnotation": 33}, 3)
    assert usage(ExperimenterGroup=[conn.getGroupFromContext().getId()])[1] == 3
    assert usage(Experimenter=[make_user().getUserId()]) == ({}, 0)
    for wrong in ({"Plate": [987654321]}, {"Plates": [1]}, {"Format": [1]}):
        with pytest.raises(omero.CmdError):
            usage(**wrong)


def test_images_have_no_original_metadata(conn, make_user):
    image = conn.createImageFromNumpySeq(iter([np.zeros((2, 2), np.uint8)]), "image")
    assert conn.getObject("Image", image.getId()).loadOriginalMetadata() == (None, [], [])
    request = omero.cmd.OriginalMetadataRequest(imageId=image.getId())
    stranger = make_user()
    answer = stranger._waitOnCmd(stranger.c.sf.submit(request)).getResponse()
    assert answer.filesetId is None and not answer.globalMetadata


def test_files_of_an_image(conn, make_user):
    image = conn.createImageFromNumpySeq(iter([np.zeros((2, 2), np.uint8)]), "image").getId()
    companion = conn.createOriginalFileFromFileObj(io.BytesIO(b"x"), "/", "companion.txt", 1)
    link = new(
        "ImageAnnotationLink",
        parent=ref("Image", image),
        child=new(
            "FileAnnotation", ns=omero.constants.namespaces.NSCOMPANIONFILE, file=ref("OriginalFile", companion.getId())
        ),
    )
    save(conn, link)
    answer = run(conn, omero.cmd.UsedFilesRequest(image))
    assert (answer.companionFiles, answer.archivedFiles) == ([companion.getId()], [])
    assert run(make_user(), omero.cmd.UsedFilesRequest(image)).name == "bad-image"
    without_pixels = save(conn, new("Image", name="i")).id.val
    assert run(conn, omero.cmd.UsedFilesRequest(without_pixels)).name == "bad-image"


def test_disk_usage_as_it_was_asked_before(conn):
    image = conn.createImageFromNumpySeq(iter([np.zeros((2, 3), np.uint8)]), "image").getId()
    answer = run(conn, omero.cmd.DiskUsage([], {"Image": [image]}))
    assert list(answer.totalBytesUsed.values()) == [6]
