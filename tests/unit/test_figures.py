"""The figures of a plate: what is drawn where."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from openhcs_omero.core import figures
from openhcs_omero.core.figures import (
    Channel,
    Thumbnail,
    choose_features,
    color_range,
    heatmap,
    load_thumbnails,
    montage,
    pack_thumbnails,
    plate_grid,
)
from openhcs_omero.core.well import thumbnail
from openhcs_omero.core.well_file import write_well_file
from openhcs_omero.errors import ConfigError

PLACES = {"B03": (1, 2), "B04": (1, 3), "D03": (3, 2)}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that a test drew."""
    kept = []
    make = figures.figure_of
    monkeypatch.setattr(figures, "figure_of", lambda *size: kept.append(make(*size)) or kept[-1])
    return kept


def test_the_grid_spans_the_first_to_the_last_well():
    assert plate_grid(list(PLACES.values())) == (range(1, 4), range(2, 4))


def test_heatmap(tmp_path, drawn):
    heatmap(PLACES, {"B03": "1.5", "B04": "", "D03": "4"}, "spots_c0", tmp_path / "spots.png")
    axes = drawn[0].axes[0]
    grid = axes.images[0].get_array().filled(np.nan)
    assert grid.shape == (3, 2) and grid[0, 0] == 1.5 and grid[2, 0] == 4 and np.isnan(grid[0, 1])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["B", "C", "D"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["3", "4"]
    assert axes.get_title(loc="left") == "spots_c0" and {t.get_text() for t in axes.texts} == {"1.5", "4"}
    assert np.ptp(np.asarray(Image.open(tmp_path / "spots.png").convert("L"))) > 100


def test_one_outlier_does_not_flatten_the_colors_of_the_others(tmp_path, drawn):
    """The outlier's color is beyond the scale, and the label gives the range of all wells."""
    places = {f"A{column + 1:02d}": (0, column) for column in range(24)}
    values = {well: str(100 + column) for column, well in enumerate(places)} | {"A05": "2500"}
    heatmap(places, values, "plate 7", tmp_path / "map.png", "mean over objects (px)")
    low, high = drawn[0].axes[0].images[0].get_clim()
    assert 100 <= low <= 102 and 121 <= high <= 123
    bar = drawn[0].axes[1]
    assert bar.get_ylabel() == "mean over objects (px)\nwells from 100 to 2500"
    assert [float(label.get_text()) for label in bar.get_yticklabels()] == [low, (low + high) / 2, high]


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([], 0, 1),
        ([0.0], -0.5, 0.5),
        ([200.0, 200.03], 198.015, 202.015),
        ([1.0, 4.0], 1, 4),
        ([-5.0] * 30 + [5.0] * 30, -5, 5),
        ([*range(100), 1e6], 2, 98),
    ],
)
def test_color_ranges(values, low, high):
    """Noise does not fill the color scale, and few wells get their full range."""
    assert color_range(np.array(values, float)) == pytest.approx((low, high), abs=1e-3)


def test_wells_without_a_value_are_marked(tmp_path, drawn):
    heatmap(PLACES, {"B03": "1"}, "x", tmp_path / "map.png", failed=["B04"])
    axes = drawn[0].axes[0]
    looks = {patch.get_xy(): (patch.get_hatch(), patch.get_facecolor()) for patch in axes.patches}
    assert set(looks) == {(0.5, -0.5), (-0.5, 1.5)} and len(set(looks.values())) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["failed", "no value"]


def test_channels_have_names_and_colors(tmp_path, drawn):
    channels = [Channel("GFP", (0, 255, 0)), Channel(), Channel("Nuclei", labels=True)]
    picture = np.stack([np.arange(64).reshape(8, 8) % 9] * 3)
    pictures = {well: [Thumbnail(picture, channels)] for well in ("B03", "B04")}
    montage(PLACES, pictures, "Plate 7", tmp_path / "montage.png", failed=["D03"])
    green, gray, labels = (axes.images[0] for axes in drawn[0].axes)
    assert [axes.get_title(loc="left") for axes in drawn[0].axes] == ["GFP", "channel 1", "Nuclei"]
    assert green.to_rgba(np.array([8.0]))[0][:3] == pytest.approx((0, 1, 0)) and gray.get_cmap().name == "gray"
    colors = labels.to_rgba(np.arange(9.0))[:, :3]
    assert (colors[0] == 0).all() and len({tuple(color) for color in colors}) == 9
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["failed"]


def test_images_with_many_channels_show_the_first(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr("openhcs_omero.core.figures.MOST_PANELS", 2)
    pictures = {"B03": [Thumbnail(np.ones((3, 8, 8)))], "B04": [Thumbnail(np.ones((1, 8, 8)))]}
    montage(PLACES, pictures, "Plate 7", tmp_path / "montage.png")
    assert len(drawn[0].axes) == 2 and drawn[0].get_suptitle() == "Plate 7: the first 2 of 3 channels"


def test_a_heatmap_without_values(tmp_path):
    heatmap(PLACES, {}, "nothing", tmp_path / "nothing.png")
    assert (tmp_path / "nothing.png").stat().st_size > 1000


def test_montage_puts_each_well_in_its_place(tmp_path, drawn):
    pictures = {well: [Thumbnail(np.full((2, 8, 8), value))] for value, well in enumerate(PLACES, 1)}
    montage(PLACES, pictures, "Plate 7", tmp_path / "montage.png")
    panels = drawn[0].axes
    sheet = panels[1].images[0].get_array().filled(np.nan)
    assert len(panels) == 2 and sheet.shape == (30, 20)
    assert sheet[5, 5] == 1 and sheet[5, 15] == 2 and sheet[25, 5] == 3 and np.isnan(sheet[15, 5])
    assert Image.open(tmp_path / "montage.png").width > 200


def test_montage_shows_every_acquisition(tmp_path, drawn):
    """Acquisitions may have other channels, and wells may lack one; what is stored in a well's file is drawn."""
    before, after = (3, "z before"), (8, "after")
    wells = {
        "B03": [
            Thumbnail(np.full((1, 8, 8), 1), [Channel("DAPI", (0, 0, 255))], before),
            Thumbnail(np.full((2, 4, 4), 2), [Channel("Cy5"), Channel(labels=True)], after),
        ],
        "D03": [Thumbnail(np.full((2, 8, 8), 3), [Channel("Cy5"), Channel(labels=True)], after)],
    }
    for well, thumbnails in wells.items():
        write_well_file(tmp_path / f"{well}.zip", "{}", thumbnail=pack_thumbnails(thumbnails))
    loaded = {well: load_thumbnails(tmp_path / f"{well}.zip") for well in wells}
    montage(PLACES, loaded, "Plate 7", tmp_path / "montage.png")
    panels = [axes for axes in drawn[0].axes if axes.images]
    assert [panel.get_title(loc="left") for panel in panels] == ["z before: DAPI", "after: Cy5", "after: channel 1"]
    sheets = [panel.images[0].get_array().filled(np.nan) for panel in panels]
    assert sheets[0][5, 5] == 1 and np.isnan(sheets[0][25, 5])
    assert [(sheet[3, 3], sheet[25, 5]) for sheet in sheets[1:]] == [(2, 3)] * 2


def test_thumbnails_of_earlier_versions(tmp_path):
    content = io.BytesIO()
    np.savez(
        content, picture=np.ones((1, 4, 4)), channels=json.dumps([{"name": "DAPI", "color": None, "labels": False}])
    )
    write_well_file(tmp_path / "A01.zip", "{}", thumbnail=content.getvalue())
    [found] = load_thumbnails(tmp_path / "A01.zip")
    assert found.picture.all() and found.channels == [Channel("DAPI")] and found.acquisition is None


@pytest.mark.parametrize(
    ("shape", "small"),
    [((1, 2, 1, 512, 512), (2, 85, 85)), ((2, 1, 3, 20, 30), (1, 20, 30)), ((1, 1, 1, 1, 500), (1, 1, 83))],
)
def test_thumbnails_keep_bright_spots(shape, small):
    image = np.zeros(shape, np.uint16)
    image[0, -1, -1, 0, 7] = 9
    found = thumbnail(image)
    assert found.shape == small and found[-1].max() == 9 and found.dtype == np.uint16


def test_the_choice_of_features_to_draw():
    columns = {
        "a": {"statistic": "mean over sites"},
        "a_sd": {"statistic": "standard deviation between sites"},
        "b": {"statistic": "mean over objects"},
        "kind": {"statistic": "the value that all sites have"},
    }
    assert choose_features(columns, None) == ["a", "b"] and choose_features(columns, ["a_sd"]) == ["a_sd"]
    assert choose_features({}, None) == choose_features({}, ["a"]) == []
    with pytest.raises(ConfigError, match="the steps measure a, a_sd, b, kind, but no 'c'"):
        choose_features(columns, ["a", "c"])


def test_a_montage_without_wells(tmp_path):
    montage(PLACES, {}, "Plate 7", tmp_path / "montage.png")
    assert (tmp_path / "montage.png").stat().st_size > 1000
