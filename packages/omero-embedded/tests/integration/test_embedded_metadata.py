"""IMetadata, IContainer and ITypes over the wire: what goes beyond the conformance cases."""

import omero
import pytest
from models import annotated, image, new, plate, ref, save
from omero.model.enums import UnitsLength
from omero.sys import ParametersI


@pytest.fixture
def dataset(conn):
    """A dataset of two images in a project, with their ids."""
    project = new("Project", name="p")
    inside = new("Dataset", name="d")
    for name in "ab":
        inside.linkImage(image(name))
    project.linkDataset(inside)
    saved = save(conn, project)
    inside = saved.linkedDatasetList()[0]
    return saved.id.val, inside.id.val, sorted(i.id.val for i in inside.linkedImageList())


def test_channels_come_with_their_acquisition(conn):
    made = image()
    channel = made.getPrimaryPixels().getChannel(0).logicalChannel
    channel.emissionWave = omero.model.LengthI(520.0, UnitsLength.NANOMETER)
    made.instrument = new("Instrument")
    detector = new("Detector", type=new("DetectorType", value="CCD"))
    made.instrument.addDetector(detector)
    channel.detectorSettings = new("DetectorSettings", detector=detector, binning=new("Binning", value="2x2"))
    found = conn.getObject("Image", save(conn, made).id.val)
    first = found.getChannels(noRE=True)[0]
    assert (first.getLabel(), first.getEmissionWave()) == ("channel 0", 520.0)
    settings = first.getLogicalChannel().getDetectorSettings()
    assert settings.getBinning().value == "2x2" and settings.getDetector().getDetectorType().value == "CCD"
    assert [d.getDetectorType().value for d in found.getInstrument().getDetectors()] == ["CCD"]


def test_containers(conn, dataset):
    project_id, dataset_id, image_ids = dataset
    service = conn.getContainerService()
    [bare] = service.loadContainerHierarchy("Project", [project_id], ParametersI().noLeaves())
    inside = bare.linkedDatasetList()[0]
    assert inside.name.val == "d" and not inside.imageLinksLoaded
    [full] = service.loadContainerHierarchy("Project", [project_id], ParametersI().leaves())
    images = full.linkedDatasetList()[0].linkedImageList()
    assert sorted(i.id.val for i in images) == image_ids
    assert images[0].getPrimaryPixels().pixelsType.value.val == "uint16"
    mine = service.loadContainerHierarchy("Dataset", None, ParametersI().exp(conn.getUserId()))
    assert [d.id.val for d in mine] == [dataset_id]
    assert not mine[0].imageLinksLoaded and mine[0].details.creationEvent.isLoaded()
    assert list(mine[0].getImageLinksCountPerOwner().items()) == [(conn.getUserId(), len(image_ids))]
    assert [d.id.val for d in service.loadContainerHierarchy("Dataset", None, None)] == [dataset_id]
    with pytest.raises(omero.ApiUsageException):
        service.loadContainerHierarchy("Image", image_ids, None)


def test_images_of_containers(conn, dataset):
    project_id, dataset_id, image_ids = dataset
    service = conn.getContainerService()
    for kind, ids in (("Project", [project_id]), ("Dataset", [dataset_id]), ("Image", image_ids)):
        found = service.getImages(kind, ids, None)
        assert sorted(i.id.val for i in found) == image_ids
        assert found[0].sizeOfPixels() == 1 and found[0].details.creationEvent.isLoaded()
        assert not found[0].details.owner.isLoaded()
    assert [i.id.val for i in service.getImages("Dataset", [dataset_id], ParametersI().page(1, 1))] == image_ids[1:]
    assert len(service.getUserImages(ParametersI().exp(conn.getUserId()))) == 2
    assert service.getCollectionCount("Dataset", "imageLinks", [dataset_id, 987654321], None) == {
        dataset_id: 2,
        987654321: 0,
    }
    assert conn.getObject("Dataset", dataset_id).countChildren() == 2
    links = service.retrieveCollection(ref("Dataset", dataset_id), "imageLinks", None)
    service.unlink(links[:1], None)
    assert service.getCollectionCount("Dataset", "imageLinks", [dataset_id], None) == {dataset_id: 1}
    with pytest.raises(omero.ApiUsageException):
        service.getCollectionCount("Dataset", "name", [dataset_id], None)


def test_annotations_by_owner(make_user):
    conn = make_user("rwra--")
    other = make_user(group=conn.getGroupFromContext().getId())
    made = save(conn, plate(wells=0))
    save(conn, annotated(made, "mine"))
    tag = save(other, annotated(made, "theirs", "Tag")).child
    service = conn.getMetadataService()

    def texts(*owners):
        found = service.loadAnnotations("Plate", [made.id.val], None, list(owners), None)
        return sorted(a.textValue.val for a in found[made.id.val])

    assert texts() == ["mine", "theirs"]
    assert texts(other.getUserId()) == ["theirs"] and texts(conn.getUserId()) == ["mine"]
    assert service.getTaggedObjectsCount([tag.id.val, 987654321], None) == {tag.id.val: 1, 987654321: 0}
    mine = ParametersI().exp(conn.getUserId())
    assert service.countSpecifiedAnnotations("CommentAnnotation", [], [], mine).val == 1
    with pytest.raises(omero.ApiUsageException):
        service.countSpecifiedAnnotations("Annotation", [], [], mine)
    with pytest.raises(omero.ApiUsageException):
        service.loadAnnotations("StatsInfo", [1], None, None, None)


def test_administrators_change_enumerations(root):
    types = root.getTypesService()
    made = types.createEnumeration(new("Immersion", value="Milk"))
    try:
        made.value = omero.rtypes.rstring("Cream")
        assert types.updateEnumeration(made).value.val == "Cream"
        assert "Cream" in [e.value.val for e in types.allEnumerations("Immersion")]
        assert "Immersion" in types.getEnumerationTypes()
    finally:
        types.deleteEnumeration(made)
    with pytest.raises(omero.ApiUsageException):
        types.getEnumeration("Immersion", "Cream")
    with pytest.raises(omero.ApiUsageException):
        types.allEnumerations("Plait")
    assert types.allEnumerations("Plate") == root.getQueryService().findAll("Plate", None)
