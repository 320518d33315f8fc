"""Where plates are read from and written to, depending on microscope and configuration."""

import pytest
from plate_folders import images_of, write_imagexpress, write_openhcs, write_phenix

from openhcs_omero.core.materialization import BackendPlan, MaterializationFlagPlanner
from openhcs_omero.errors import ConfigError
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.microscopes.omero import OMEROHandler


@pytest.mark.parametrize("configured", ["disk", "zarr"])
def test_omero_plates_stay_in_omero_whatever_is_configured(configured):
    handler = OMEROHandler(backend=None)  # the choice of backend needs no server
    planner = MaterializationFlagPlanner(FileManager(), configured)
    for plate in (7, "/omero/plate_7", "/omero/plate_7_processed"):
        assert planner.plan(handler, plate) == BackendPlan("omero_local", "omero_local")


@pytest.mark.parametrize("configured", ["disk", "zarr"])
@pytest.mark.parametrize(
    ("write", "read"),
    [
        (write_imagexpress, "disk"),
        (write_phenix, "disk"),
        (lambda folder, images: write_openhcs(folder, images, "disk"), "disk"),
        (lambda folder, images: write_openhcs(folder, images, "zarr"), "zarr"),
        (lambda folder, images: write_openhcs(folder, images, "virtual_workspace"), "virtual_workspace"),
    ],
    ids=["ImageXpress", "Phenix", "OpenHCS disk", "OpenHCS zarr", "OpenHCS workspace"],
)
def test_folders_are_written_to_the_configured_backend(tmp_path, write, read, configured):
    folder = write(tmp_path / "p", images_of(["A01"], sites=1, shape=(1, 1, 1, 4, 4)))
    planner = MaterializationFlagPlanner(FileManager(), configured)
    assert planner.plan(handler_of(folder), folder) == BackendPlan(read, configured)


def test_the_names_are_names_of_backends():
    plan = MaterializationFlagPlanner(FileManager()).plan(OMEROHandler(backend=None), 7)
    assert type(plan.read_backend) is type(plan.materialization_backend) is str


@pytest.mark.parametrize("configured", ["omero_local", "memory", "virtual_workspace", "", "tape"])
def test_backends_that_can_not_be_written_to(configured):
    with pytest.raises(ConfigError, match="it must be one of disk, zarr"):
        MaterializationFlagPlanner(FileManager(), configured)
