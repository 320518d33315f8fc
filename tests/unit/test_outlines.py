"""Parts of sites with their objects, and the wells that are drawn."""

import numpy as np
import pytest

from openhcs_omero.core.outlines import SIDE, draw_outlines, load_part, pack_part
from openhcs_omero.core.plate_tables import write_rows
from openhcs_omero.core.well_file import well_file, write_well_file

QC = ("focus_z", "empty", "excluded")


def a_site(places, side=400, radius=6, channels=2):
    """A noisy image with disks, (1, C, 2, Y, X), and their labels."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(200, 5, (1, channels, 2, side, side))
    labels = np.zeros((1, 1, 1, side, side), np.uint16)
    y, x = np.mgrid[0:side, 0:side]
    for number, (v, u) in enumerate(places, 1):
        inside = (y - v) ** 2 + (x - u) ** 2 <= radius**2
        pixels[0, :, 0][:, inside] += 500
        labels[0, 0, 0][inside] = number
    return pixels.astype(np.uint16), {"nuclei": labels}


def a_well(folder, name, places, **options):
    pixels, labels = a_site(places, **options)
    write_well_file(well_file(folder, name), "{}", outlines=pack_part(1, pixels, labels, ["GFP", None]))


def test_a_part_lies_around_the_objects(tmp_path):
    pixels, labels = a_site([(300, 320), (310, 350), (330, 300)])
    write_well_file(tmp_path / "processed/A01.zip", "{}", outlines=pack_part(3, pixels, labels, ["GFP", None], "day 2"))
    part = load_part(tmp_path / "processed/A01.zip")
    assert (part.site, part.counts, part.channels) == (3, {"nuclei": 3}, ["GFP", "channel 1"])
    assert drawn(tmp_path, ["A01"])[0] == [("A01, day 2: 3 nuclei", True)]
    assert part.planes.shape == (2, SIDE, SIDE) and len(np.unique(part.labels["nuclei"])) == 4
    inside = part.labels["nuclei"][0] > 0
    assert inside.sum() == np.count_nonzero(labels["nuclei"])
    assert part.planes[0][inside].mean() == pytest.approx(700, abs=10)
    assert part.planes[0][~inside].mean() == pytest.approx(203, abs=5)  # the maximum of two planes


def test_large_objects_are_drawn_smaller(tmp_path):
    pixels, labels = a_site([(200, 200)], radius=50)
    write_well_file(tmp_path / "a.zip", "{}", outlines=pack_part(1, pixels, labels, ["GFP", None]))
    part = load_part(tmp_path / "a.zip")
    assert part.planes.shape[1] <= 1.5 * SIDE and (part.labels["nuclei"] > 0).sum() < 0.3 * np.pi * 50**2


def test_sites_without_objects_small_sites_and_wells_without_a_search(tmp_path):
    pixels, labels = a_site([], side=40)
    write_well_file(tmp_path / "a.zip", "{}", outlines=pack_part(1, pixels, labels, ["a", "b"]))
    assert load_part(tmp_path / "a.zip").planes.shape == (2, 40, 40)
    write_well_file(tmp_path / "b.zip", "{}", outlines=pack_part(1, pixels, {}, ["a", "b"]))
    assert load_part(tmp_path / "b.zip") is None


def drawn(folder, wells):
    """The captions of the drawn wells, the worst in red."""
    figure = draw_outlines(folder, wells, "plate 7")
    titles = [axes.title for axes in figure.axes if axes.get_title()]
    return [(title.get_text(), title.get_color() == "#b2182b") for title in titles], figure


def test_wells_are_ranked_by_focus_or_by_objects(tmp_path):
    wells = ["A01", "A02", "A03", "B01", "B02", "B03", "C01", "C02", "C03", "D01"]
    for number, well in enumerate(wells):
        a_well(tmp_path, well, [(20 + 22 * n, 150) for n in range(number)], side=220)
    by_count, _ = drawn(tmp_path, wells)
    assert [caption.partition(":")[0] for caption, _ in by_count] == [*wells[:4], *wells[-4:]]
    assert [red for _, red in by_count] == [True] * 4 + [False] * 4 and by_count[0][0] == "A01: 0 nuclei"

    quality = dict.fromkeys(wells, (0.5, 0.0, "")) | {
        "D01": (-7.25, 0.0, ""),
        "C03": (2.0, 0.0, "focus_z < -3"),
        "A01": ("", 1.0, ""),
        "A03": (3.5, 0.0, ""),
    }
    rows = [{"well": well, "site": 1, **dict(zip(QC, values))} for well, values in quality.items()]
    write_rows(tmp_path / "image_qc.csv", rows)
    by_focus, figure = drawn(tmp_path, wells)
    assert [caption for caption, _ in by_focus[:3]] == [
        "C03: focus_z 2.0, excluded\n8 nuclei",
        "A01: empty\n0 nuclei",
        "D01: focus_z -7.2\n9 nuclei",
    ]
    assert by_focus[-1][0].startswith("A03: focus_z 3.5") and len(by_focus) == 8
    assert figure.get_suptitle() == "plate 7: worst and best wells by focus"


def test_no_well_is_drawn_twice(tmp_path):
    a_well(tmp_path, "A01", [(50, 50)], side=100)
    assert [caption for caption, _ in drawn(tmp_path, ["A01"])[0]] == ["A01: 1 nuclei"]
    a_well(tmp_path, "A02", [], side=100, channels=1)
    captions, _ = drawn(tmp_path, ["A01", "A02"])
    assert captions == [("A02: 0 nuclei", True), ("A01: 1 nuclei", False)]


def test_outlines_are_on_the_edge_of_objects(tmp_path):
    a_well(tmp_path, "A01", [(50, 50)], side=100, radius=10)
    figure = drawn(tmp_path, ["A01"])[1]
    picture = figure.axes[0].images[0].get_array()
    colored = np.argwhere(np.ptp(picture, axis=2) > 0.1)
    distance = np.hypot(*(colored - 100.5).T) / 2
    assert len(colored) > 100 and distance.min() > 8 and distance.max() < 11
