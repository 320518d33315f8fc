"""Make OME-Zarr plates with ngio, ngff-zarr and ome-zarr-py, in the folder that is given; prints their names.

Each has the wells A01 and B03 with two images of the shape (C, Z, Y, X), which is in the file <plate>.npy for all of
them: (well, site, C, Z, Y, X). tests/unit/test_zarr_readers.py runs this in an environment with these programs.
"""

import sys
from pathlib import Path

import ngff_zarr
import ngio
import numpy as np
import ome_zarr.writer
import zarr
from ome_zarr.format import FormatV04, FormatV05

WELLS = (("A", "1"), ("B", "3"))
SHAPE = (2, 3, 40, 60)
rng = np.random.default_rng(4)


def images_for(path):
    images = rng.integers(1, 60000, (len(WELLS), 2, *SHAPE)).astype("uint16")
    np.save(f"{path}.npy", images)
    return images


def with_ngio(path, version):
    images = images_for(path)
    plate = ngio.create_empty_plate(path, name="a plate", ngff_version=version)
    for (row, column), sites in zip(WELLS, images):
        for number, image in enumerate(sites):
            plate.add_image(row, column, str(number), acquisition_id=0, acquisition_name="only")
            ngio.create_ome_zarr_from_array(
                Path(path, row, column.zfill(2), str(number)),
                image,
                pixelsize=0.65,
                z_spacing=2.0,
                axes_names="czyx",
                channels_meta=["DAPI", "GFP"],
                levels=2,
                ngff_version=version,
                overwrite=True,
            )


def with_ngff_zarr(path, version):
    images = images_for(path)
    plate = ngff_zarr.Plate(
        name="a plate",
        rows=[ngff_zarr.PlateRow(row) for row, _ in WELLS],
        columns=[ngff_zarr.PlateColumn(column) for _, column in WELLS],
        wells=[ngff_zarr.PlateWell(f"{row}/{column}", n, n) for n, (row, column) in enumerate(WELLS)],
        field_count=2,
        version=version,
    )
    ngff_zarr.to_hcs_zarr(ngff_zarr.HCSPlate(path, plate), path)
    for (row, column), sites in zip(WELLS, images):
        for number, image in enumerate(sites):
            scale = {"c": 1.0, "z": 2.0, "y": 0.65, "x": 0.65}
            made = ngff_zarr.to_ngff_image(image, "czyx", scale, axes_units=dict.fromkeys("zyx", "micrometer"))
            multiscales = ngff_zarr.to_multiscales(made, scale_factors=[2])
            ngff_zarr.write_hcs_well_image(path, multiscales, plate, row, column, number, version=version)


def with_ome_zarr(path, version):
    images = images_for(path)
    form = FormatV04() if version == "0.4" else FormatV05()
    root = zarr.open_group(path, mode="w", zarr_format=form.zarr_format)
    names = ["/".join(well) for well in WELLS]
    ome_zarr.writer.write_plate_metadata(root, ["A", "B"], ["1", "2", "3"], names, form, field_count=2)
    for name, sites in zip(names, images):
        well = root.require_group(name)
        ome_zarr.writer.write_well_metadata(well, ["0", "1"], form)
        for number, image in enumerate(sites):
            ome_zarr.writer.write_image(
                image,
                well.require_group(str(number)),
                fmt=form,
                axes="czyx",
                scale_factors=[2],
                scale={"z": 2.0, "y": 0.65, "x": 0.65},
                axes_units=dict.fromkeys("zyx", "micrometer"),
            )


def main(folder):
    for make in (with_ngio, with_ngff_zarr, with_ome_zarr):
        for version in ("0.4", "0.5"):
            name = f"{make.__name__.removeprefix('with_')}_{version}.zarr"
            make(str(Path(folder, name)), version)
            print(name)


main(*sys.argv[1:])
