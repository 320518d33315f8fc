"""Draw the pictures of the page about steps, and that of outlines: `python docs/step_pictures.py`."""

import io
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.measure import find_contours

from openhcs_omero.core.outlines import draw_outlines, pack_part
from openhcs_omero.core.plate_tables import write_rows
from openhcs_omero.core.well_file import well_file, write_well_file
from openhcs_omero.processing.background import subtract_background
from openhcs_omero.processing.cells import cell_counting_cpu, segment_cells
from openhcs_omero.processing.illumination import correct_illumination
from openhcs_omero.processing.objects import measure_objects
from openhcs_omero.processing.projection import project_z
from openhcs_omero.processing.registration import align_channels, align_timepoints
from openhcs_omero.processing.spots import count_spots, count_spots_per_cell, find_spots
from openhcs_omero.processing.synthetic import draw_site, illumination
from openhcs_omero.processing.whole_cells import segment_whole_cells

FOLDER = Path(__file__).parent / "images" / "steps"
SIDE = 200
GRAY = {"cmap": "gray", "interpolation": "nearest"}


class Nowhere:
    """A file manager that keeps nothing."""

    def save(self, *args, **kwargs):
        pass


def run(step, image, told=None, **params):
    return step(image, Nowhere(), {"plate": "p", "well": "A01", "site": 1, **(told or {})}, **params)


def site(*planes):
    return np.stack(planes)[None, :, None]


def show(axes, plane, title, limits=None):
    low, high = np.percentile(plane, [1, 99.8]) if limits is None else limits
    axes.imshow(plane, vmin=low, vmax=high, **GRAY)
    axes.set_title(title, fontsize=8)


def overlay(axes, first, second, title):
    """Two planes in magenta and green: white where they are alike."""
    scaled = [
        np.clip((plane - np.percentile(plane, 1)) / np.ptp(np.percentile(plane, [1, 99.5])), 0, 1)
        for plane in (first, second)
    ]
    axes.imshow(np.stack([scaled[0], scaled[1], scaled[0]], axis=-1), interpolation="nearest")
    axes.set_title(title, fontsize=8)


def outline(axes, labels, color):
    for number in np.unique(labels[labels > 0]):
        for line in find_contours(np.pad(labels == number, 1), 0.5):
            axes.plot(line[:, 1] - 1, line[:, 0] - 1, color=color, linewidth=1.2)


def panels(count=2):
    figure = Figure(figsize=(2.2 * count, 2.35), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count)
    for one in axes:
        one.set_axis_off()
    return figure, axes


def save(figure, name, colors=80):
    """Write a PNG with a palette, which is small."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    picture = Image.open(content).convert("RGB").quantize(colors, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(FOLDER / f"{name}.png", optimize=True)


def show_projection(dapi):
    limits = np.percentile(dapi, [1, 99.8])
    stack = np.stack([gaussian_filter(dapi.astype(float), 0.3 + 3 * abs(z - 1)) for z in range(3)]).astype("uint16")
    flat, _ = run(project_z, stack[None, None], method="best_focus")
    figure, axes = panels(4)
    for z, plane in enumerate(stack):
        show(axes[z], plane, f"z {z}", limits)
    show(axes[3], flat[0, 0, 0], "best focus", limits)
    save(figure, "project_z")


def show_alignment(dapi):
    moved = np.roll(dapi, (9, -6), axis=(0, 1))
    for name, step, pair, title in (
        ("align_channels", align_channels, site(dapi, moved), "two cycles"),
        ("align_timepoints", align_timepoints, np.stack([dapi, moved])[:, None, None], "first and last timepoint"),
    ):
        aligned, _ = run(step, pair)
        figure, axes = panels()
        overlay(axes[0], dapi, moved, title)
        overlay(axes[1], *aligned.reshape(2, SIDE, SIDE), "aligned")
        save(figure, name)


def show_illumination(dapi, even):
    limits = np.percentile(dapi, [1, 99.8])
    figure, axes = panels()
    show(axes[0], dapi, "uneven illumination", limits)
    show(axes[1], even[0, 1, 0], "corrected", limits)
    save(figure, "correct_illumination")


def show_background(plane):
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    sloped = (plane + 2.0 * y + 1.0 * x).astype("uint16")
    flat, _ = run(subtract_background, site(sloped), radius=25)
    figure, axes = panels()
    show(axes[0], sloped, "with background")
    show(axes[1], flat[0, 0, 0], "subtracted, radius 25 px")
    save(figure, "subtract_background")


def show_nuclei(even, nuclei):
    figure, axes = panels()
    show(axes[0], even[0, 1, 0], "DAPI")
    show(axes[1], even[0, 1, 0], "labels 'nuclei'")
    outline(axes[1], nuclei[0, 0, 0], "yellow")
    save(figure, "segment_cells")

    labeled, _ = run(cell_counting_cpu, even[:, 1:], diameter=22)
    figure, axes = panels()
    show(axes[0], even[0, 1, 0], "DAPI")
    axes[1].imshow(np.ma.masked_equal(labeled[0, 0, 0], 0), cmap="tab20", interpolation="nearest")
    axes[1].set_title("label image", fontsize=8)
    save(figure, "cell_counting_cpu")


def show_whole_cells(even, nuclei, cells):
    figure, axes = panels()
    show(axes[0], even[0, 0, 0], "GFP, and the nuclei")
    outline(axes[0], nuclei[0, 0, 0], "yellow")
    show(axes[1], even[0, 0, 0], "labels 'cells'")
    outline(axes[1], nuclei[0, 0, 0], "yellow")
    outline(axes[1], cells[0, 0, 0], "cyan")
    save(figure, "segment_whole_cells")


def show_spots(even, told):
    places, _ = find_spots(even[0, 0, 0])
    _, counted = run(count_spots, even, told, channels=[0])
    figure, axes = panels()
    show(axes[0], even[0, 0, 0], "GFP")
    show(axes[1], even[0, 0, 0], f"{counted['spots_c0']} spots")
    axes[1].scatter(places[:, 1], places[:, 0], s=14, facecolors="none", edgecolors="red", linewidths=1.0)
    save(figure, "count_spots")

    cells = told["labels"]["cells"][0, 0, 0]
    _, counted = run(count_spots_per_cell, even, told, channels=[0])
    figure, axes = panels()
    show(axes[0], even[0, 0, 0], "GFP, and the cells")
    outline(axes[0], cells, "cyan")
    show(axes[1], even[0, 0, 0], "spots per cell")
    outline(axes[1], cells, "cyan")
    for row in counted["objects"]:
        v, u = np.argwhere(cells == row["label"]).mean(axis=0)
        axes[1].text(u, v, row["spots_GFP"], color="yellow", fontsize=8, ha="center", va="center")
    save(figure, "count_spots_per_cell")


def show_measurements(even, told):
    cells = told["labels"]["cells"][0, 0, 0]
    _, measured = run(measure_objects, even, told, labels=["cells"])
    figure, axes = panels()
    for one, feature in zip(axes, ("area", "mean_intensity_GFP")):
        values = np.zeros((SIDE, SIDE))
        for row in measured["objects"]:
            values[cells == row["label"]] = row[feature]
        drawn = one.imshow(np.ma.masked_equal(values, 0), interpolation="nearest")
        bar = figure.colorbar(drawn, ax=one, fraction=0.045)
        bar.ax.tick_params(labelsize=6)
        one.set_title(feature, fontsize=8)
    save(figure, "measure_objects")


def draw_steps():
    FOLDER.mkdir(parents=True, exist_ok=True)
    _, _, (gfp, dapi) = draw_site(np.random.default_rng(4), SIDE, 5.0, cells=12)
    told = {"channels": ["GFP", "DAPI"], "plate_estimate": {c: illumination(SIDE, c).astype("float32") for c in (0, 1)}}
    even, _ = run(correct_illumination, site(gfp, dapi), told, dark=100.0)
    nuclei = run(segment_cells, even, told, channels=[1], diameter=22)[1]["labels"]["nuclei"]
    told["labels"] = {"nuclei": nuclei}
    cells = run(segment_whole_cells, even, told, channels=[0], contrast=3.0)[1]["labels"]["cells"]
    show_projection(dapi)
    show_alignment(dapi)
    show_illumination(dapi, even)
    show_background(even[0, 1, 0])
    show_nuclei(even, nuclei)
    show_whole_cells(even, nuclei, cells)
    told["labels"]["cells"] = cells
    show_spots(even, told)
    show_measurements(even, told)


def draw_wells():
    """The best and worst wells of a small plate, for the page about the analysis."""
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), []
        for number in range(12):
            rng, well = np.random.default_rng(number), f"A{number + 1:02}"
            blur = {3: 4.0, 6: 2.0}.get(number, 0.0)
            image = site(*draw_site(rng, 400, 4.0, cells=0 if number == 5 else None, blur=blur)[2])
            labels = run(segment_cells, image, channels=[1], diameter=22)[1]["labels"]
            labels |= run(segment_whole_cells, image, {"labels": labels}, channels=[0])[1]["labels"]
            write_well_file(well_file(folder, well), "{}", outlines=pack_part(1, image, labels, ["GFP", "DAPI"]))
            focus = "" if number == 5 else -3 * blur + rng.normal()
            rows.append({"well": well, "site": 1, "focus_z": focus, "empty": float(number == 5), "excluded": ""})
        write_rows(folder / "image_qc.csv", rows)
        figure = draw_outlines(folder, [row["well"] for row in rows], "plate 7")
        figure.set_dpi(100)
        save(figure, "../outlines", colors=256)


if __name__ == "__main__":
    draw_steps()
    draw_wells()
