"""Plate folders as microscopes write them, made for tests.

Images are given by (well, site) as arrays (T, C, Z, Y, X) of the same shape; file names and metadata follow real
folders of MetaXpress 6 and Harmony 5 to 7.
"""

import json
import uuid
from pathlib import Path

import numpy as np
import tifffile

from openhcs_omero.io.zarr import ZarrBackend
from openhcs_omero.plates.paths import parse_well

CHANNELS = ("DAPI", "FITC", "Texas Red", "Cy5")
PIXEL_SIZE = 0.65  # um


def images_of(wells, sites=2, shape=(2, 2, 3, 6, 5), dtype="uint16", seed=0):
    """Random images for (well, site)."""
    rng = np.random.default_rng(seed)
    return {(well, site): rng.integers(0, 250, shape).astype(dtype) for well in wells for site in range(1, sites + 1)}


def _guid():
    return str(uuid.uuid4()).upper()


def _shape(images):
    return next(iter(images.values())).shape


# ---- ImageXpress


def write_imagexpress(folder, images, guids=True, projections=False, htd=True, wells=None):
    """Write TimePoint_ and ZStep_ folders where there are several, and GUIDs as in a folder of the database."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = _shape(images)
    several_t, several_z = sizes[0] > 1, sizes[2] > 1
    for (well, site), image in images.items():
        for t, c, z in np.ndindex(image.shape[:3]):
            stack = folder / f"TimePoint_{t + 1}" if several_t or several_z else folder
            place = stack / f"ZStep_{z + 1}" if several_z else stack
            place.mkdir(parents=True, exist_ok=True)
            name = f"{folder.name}_{well}_s{site}_w{c + 1}"
            _metaseries(place / f"{name}{_guid() if guids else ''}.TIF", image[t, c, z])
            if guids:
                _metaseries(place / f"{name}_thumb{_guid()}.TIF", image[t, c, z][::2, ::2])
            if projections and several_z and z == 0:
                (stack / "ZStep_0").mkdir(exist_ok=True)
                _metaseries(stack / "ZStep_0" / f"{name}.TIF", image[t, c].max(axis=0))
                _metaseries(stack / f"{name}{_guid()}.TIF", image[t, c].max(axis=0))
    if htd:
        sites = max(site for _, site in images)
        write_htd(folder / f"{folder.name}.HTD", wells or [well for well, _ in images], sites, sizes)
    return folder


def write_htd(path, wells, sites, sizes, rows=8, columns=12):
    """Write an HTD file; `sizes` is (T, C, Z, ...)."""
    chosen = {parse_well(well) for well in wells}
    lines = [
        '"HTSInfoFile", Version 1.0',
        '"Description", "made for a test, \xb5m"',
        '"PlateType", 2',
        f'"TimePoints", {sizes[0]}',
        f'"ZSeries", {str(sizes[2] > 1).upper()}',
        f'"ZSteps", {sizes[2]}',
        '"ZProjection", FALSE',
        f'"XWells", {columns}',
        f'"YWells", {rows}',
    ]
    for row in range(rows):
        selected = ", ".join(str((row, column) in chosen).upper() for column in range(columns))
        lines.append(f'"WellsSelection{row + 1}", {selected}')
    # a square of sites, of which the first ones are selected
    side = int(np.ceil(np.sqrt(sites)))
    lines += [f'"Sites", {str(sites > 1).upper()}', f'"XSites", {side}', f'"YSites", {side}']
    for y in range(side):
        lines.append(f'"SiteSelection{y + 1}", ' + ", ".join(str(y * side + x < sites).upper() for x in range(side)))
    lines += ['"Waves", TRUE', f'"NWavelengths", {sizes[1]}']
    lines += [f'"WaveName{c + 1}", "{CHANNELS[c]}"' for c in range(sizes[1])]
    lines += [f'"WaveCollect{c + 1}", 1' for c in range(sizes[1])]
    lines += ['"UniquePlateIdentifier", "6f0ba473-0000-0000-0000-000000000000"', '"EndFile"']
    path.write_bytes("\r\n".join(lines).encode("latin-1") + b"\r\n")


def _metaseries(path, plane):
    """A TIFF with the XML that MetaXpress writes into each plane."""
    properties = "".join(
        f'<prop id="{name}" type="{kind}" value="{value}"/>'
        for name, kind, value in (
            ("spatial-calibration-state", "bool", "on"),
            ("spatial-calibration-x", "float", PIXEL_SIZE),
            ("spatial-calibration-y", "float", PIXEL_SIZE),
            ("spatial-calibration-units", "string", "um"),
        )
    )
    description = (
        f'<MetaData><prop id="ApplicationName" type="string" value="MetaMorph"/>'
        f"<PlaneInfo>{properties}</PlaneInfo></MetaData>"
    )
    tifffile.imwrite(path, plane, description=description, software="MetaSeries", metadata=None)


# ---- Opera Phenix


def write_phenix(folder, images, version=5, index="Index.idx.xml", inside="Images", rows=8, columns=12):
    """Write Harmony's archive of `version`; field and plane ids start at 1, timepoints at 0 in XML and 1 in names."""
    place = folder / inside if inside else folder
    place.mkdir(parents=True)
    elements = []
    for (well, site), image in images.items():
        row, column = (number + 1 for number in parse_well(well))
        for t, c, z in np.ndindex(image.shape[:3]):
            name = f"r{row:02d}c{column:02d}f{site:02d}p{z + 1:02d}-ch{c + 1}sk{t + 1}fk1fl1.tiff"
            tifffile.imwrite(place / name, image[t, c, z])
            elements.append(_image(name, row, column, site, z, t, c, image.shape, version))
    if index:
        space = f"http://www.perkinelmer.com/PEHH/HarmonyV{version}"
        if version == 7:
            space = "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7"
        (place / index).write_text(_index(folder.name, images, elements, space, version, rows, columns))
    return folder


def _image(name, row, column, site, z, t, c, shape, version):
    resolution = f"{PIXEL_SIZE * 1e-6:.6E}"
    channel = (
        (
            f'<ChannelName>{CHANNELS[c]}</ChannelName><ImageResolutionX Unit="m">{resolution}</ImageResolutionX>'
            f'<ImageResolutionY Unit="m">{resolution}</ImageResolutionY><ImageSizeX>{shape[4]}</ImageSizeX>'
            f"<ImageSizeY>{shape[3]}</ImageSizeY>"
        )
        if version == 5
        else ""
    )
    return (
        f'<Image Version="1"><id>{row:02d}{column:02d}K{t + 1}F{site}P{z + 1}R{c + 1}</id><State>Ok</State>'
        f"<URL>{name}</URL><Row>{row}</Row><Col>{column}</Col><FieldID>{site}</FieldID><PlaneID>{z + 1}</PlaneID>"
        f"<TimepointID>{t}</TimepointID><ChannelID>{c + 1}</ChannelID><FlimID>1</FlimID>{channel}"
        f'<PositionX Unit="m">0</PositionX><PositionZ Unit="m">{2e-6 * z:.3E}</PositionZ></Image>'
    )


def _index(name, images, elements, space, version, rows, columns):
    shape = _shape(images)
    wells = sorted({well for well, _ in images}, key=parse_well)
    ids = {well: "{:02d}{:02d}".format(*(number + 1 for number in parse_well(well))) for well in wells}
    plate = (
        f"<Plate><PlateID>{name}</PlateID><Name>{name}</Name><PlateTypeName>96well</PlateTypeName>"
        f"<PlateRows>{rows}</PlateRows><PlateColumns>{columns}</PlateColumns>"
        + "".join(f'<Well id="{ids[well]}" />' for well in wells)
        + "</Plate>"
    )
    places = "".join(
        f"<Well><id>{ids[well]}</id><Row>{int(ids[well][:2])}</Row><Col>{int(ids[well][2:])}</Col>"
        f'<Image id="{ids[well]}K1F1P1R1" /></Well>'
        for well in wells
    )
    resolution = f"{PIXEL_SIZE * 1e-6:.6E}"
    entries = "".join(
        f'<Entry ChannelID="{c + 1}"><ChannelName>{CHANNELS[c]}</ChannelName><ImageSizeX>{shape[4]}</ImageSizeX>'
        f'<ImageResolutionX Unit="m">{resolution}</ImageResolutionX>'
        f'<ImageResolutionY Unit="m">{resolution}</ImageResolutionY></Entry>'
        for c in range(shape[1])
    )
    maps = f"<Maps><Map>{entries}</Map></Maps>" if version > 5 else "<Maps><Map /></Maps>"
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<EvaluationInputData Version="1" xmlns="{space}">'
        f"<User>Test</User><InstrumentType>Phenix</InstrumentType>"
        f"{plate if version == 7 else f'<Plates>{plate}</Plates>'}"
        f"{'' if version == 7 else f'<Wells>{places}</Wells>'}{maps}<Images>{''.join(elements)}</Images>"
        "</EvaluationInputData>"
    )


# ---- CellVoyager and IN Cell


def write_cellvoyager(folder, images, listed=True, rows=8, columns=12):
    """Write the list of measurements and the files next to it, or only images."""
    folder.mkdir(parents=True)
    space = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
    records = []
    for (well, site), image in images.items():
        row, column = (number + 1 for number in parse_well(well))
        for t, c, z in np.ndindex(image.shape[:3]):
            name = f"AssayPlate_{well}_T{t + 1:04d}F{site:03d}L01A0{c + 1}Z{z + 1:02d}C0{c + 1}.tif"
            tifffile.imwrite(folder / name, image[t, c, z])
            records.append(
                f'<bts:MeasurementRecord bts:Type="IMG" bts:Column="{column}" bts:Row="{row}" bts:FieldIndex="{site}" '
                f'bts:TimePoint="{t + 1}" bts:TimelineIndex="1" bts:ZIndex="{z + 1}" bts:Ch="{c + 1}" bts:X="0" '
                f'bts:Y="0" bts:Z="{2 * z}">{name}</bts:MeasurementRecord>'
            )
    tifffile.imwrite(folder / "DC_sCMOS #1_CAM1.tif", np.zeros((4, 4), "uint16"))
    if listed:
        channels = range(1, _shape(images)[1] + 1)
        (folder / "MeasurementData.mlf").write_text(
            f'<?xml version="1.0" encoding="utf-8"?><bts:MeasurementData {space}>{"".join(records)}'
            "</bts:MeasurementData>"
        )
        (folder / "MeasurementDetail.mrf").write_text(
            f'<bts:MeasurementDetail {space} bts:RowCount="{rows}" bts:ColumnCount="{columns}">'
            + "".join(
                f'<bts:MeasurementChannel bts:Ch="{c}" bts:HorizontalPixelDimension="{PIXEL_SIZE}" '
                f'bts:VerticalPixelDimension="{PIXEL_SIZE}" />'
                for c in channels
            )
            + "</bts:MeasurementDetail>"
        )
        (folder / "plate.mes").write_text(
            f"<bts:MeasurementSetting {space}><bts:ChannelList>"
            + "".join(f'<bts:Channel bts:Ch="{c}" bts:Target="{CHANNELS[c - 1]}" />' for c in channels)
            + "</bts:ChannelList></bts:MeasurementSetting>"
        )
    return folder


def write_incell(folder, images, described=True, rows=8, columns=12):
    """Write the description and images, or only images."""
    folder.mkdir(parents=True)
    elements = []
    for (well, site), image in images.items():
        row, column = parse_well(well)
        for t, c, z in np.ndindex(image.shape[:3]):
            name = (
                f"{well[:-2]} - {column + 1}(fld {site} wv {CHANNELS[c]} - {CHANNELS[c]} z {z + 1} "
                f"time {t + 1} - {1000 * t} ms).tif"
            )
            tifffile.imwrite(folder / name, image[t, c, z])
            elements.append(
                f'<Image filename="{name}"><Well><Row number="{row + 1}"/>'
                f'<Column number="{column + 1}"/></Well><Identifier field_index="{site - 1}" '
                f'time_index="{t}" wave_index="{c}" z_index="{z}"/></Image>'
            )
    if described:
        waves = "".join(
            f'<Wavelength index="{c}"><EmissionFilter name="{CHANNELS[c]}"/></Wavelength>'
            for c in range(_shape(images)[1])
        )
        (folder / f"{folder.name}.XDCE").write_text(
            f'<ImageStack><AutoLeadAcquisitionProtocol><Plate rows="{rows}" columns="{columns}"/>'
            f'<ObjectiveCalibration pixel_width="{PIXEL_SIZE}" pixel_height="{PIXEL_SIZE}"/><Wavelengths>{waves}'
            f"</Wavelengths></AutoLeadAcquisitionProtocol><Images>{''.join(elements)}</Images></ImageStack>"
        )
    return folder


# ---- TIFFs by name


def write_tiffs(folder, images):
    """Write TIFFs with this package's file names."""
    folder.mkdir()
    for (well, number), image in images.items():
        for t, c, z in np.ndindex(image.shape[:3]):
            tifffile.imwrite(folder / f"{well}_s{number:03d}_z{z:03d}_c{c:03d}_t{t:03d}.tif", image[t, c, z])
    return folder


# ---- OpenHCS


def write_openhcs(folder, images, backend):
    """Write disk and virtual_workspace folders as OpenHCS does, and zarr folders as this software does."""
    folder.mkdir(parents=True)
    names = {}
    for (well, site), image in images.items():
        for t, c, z in np.ndindex(image.shape[:3]):
            name = f"{well}_s{site:03d}_w{c + 1}_z{z + 1:03d}_t{t + 1:03d}.tif"
            names[name] = (image[t, c, z], f"TimePoint_{t + 1}/ZStep_{z + 1}/x_{well}_s{site}_w{c + 1}.TIF")
    channels = {str(c + 1): CHANNELS[c] for c in range(_shape(images)[1])}
    values = {
        "microscope_handler_name": "imagexpress",
        "source_filename_parser_name": "ImageXpressFilenameParser",
        "grid_dimensions": [1, 1],
        "pixel_size": PIXEL_SIZE,
        "channels": channels,
        "wells": None,
        "sites": None,
        "z_indexes": None,
        "timepoints": None,
        "available_backends": {backend: True},
        "main": True,
    }
    if backend == "disk":
        subdirectory, values["image_files"] = "images", [f"images/{name}" for name in names]
        for name, (plane, _) in names.items():
            _write(folder / "images" / name, plane)
    elif backend == "virtual_workspace":
        subdirectory, values["image_files"] = ".", list(names)
        values["workspace_mapping"] = {name: file for name, (_, file) in names.items()}
        for plane, file in names.values():
            _write(folder / file, plane)
    else:
        subdirectory, values["source_filename_parser_name"] = "zarr", "OpenHCSFilenameParser"
        values["channels"] = {str(int(c) - 1): name for c, name in channels.items()}
        for (well, site), image in images.items():
            ZarrBackend().save(image, folder / "zarr" / well / f"{well}_s{site:03d}.tif")
    others = {"images_results": {"main": False, "image_files": [], "available_backends": {"disk": True}}}
    (folder / "openhcs_metadata.json").write_text(json.dumps({"subdirectories": {**others, subdirectory: values}}))
    return folder


def _write(path: Path, plane):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, plane)
