"""The plate's pictures: what is drawn where."""
import numpy as np
import pytest
from PIL import Image

from openhcs_omero.core import figures
from openhcs_omero.core.figures import choose_features, heatmap, montage, plate_grid
from openhcs_omero.core.well import thumbnail
from openhcs_omero.errors import ConfigError

PLACES = {"B03": (1, 2), "B04": (1, 3), "D03": (3, 2)}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn."""
    kept = []
    make = figures._figure
    monkeypatch.setattr(figures, "_figure", lambda *size: kept.append(make(*size)) or kept[-1])
    return kept


def test_the_grid_reaches_from_the_first_to_the_last_well():
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


def test_a_heatmap_without_any_value(tmp_path):
    heatmap(PLACES, {}, "nothing", tmp_path / "nothing.png")
    assert (tmp_path / "nothing.png").stat().st_size > 1000


def test_montage_puts_each_well_in_its_place(tmp_path, drawn):
    pictures = {well: np.full((2, 8, 8), value) for value, well in enumerate(PLACES, 1)}
    montage(PLACES, pictures, "Plate 7", tmp_path / "montage.png")
    panels = drawn[0].axes
    sheet = panels[1].images[0].get_array().filled(np.nan)
    assert len(panels) == 2 and sheet.shape == (30, 20)
    assert sheet[5, 5] == 1 and sheet[5, 15] == 2 and sheet[25, 5] == 3 and np.isnan(sheet[15, 5])
    assert Image.open(tmp_path / "montage.png").width > 200


@pytest.mark.parametrize(("shape", "small"), [((1, 2, 1, 512, 512), (2, 85, 85)), ((2, 1, 3, 20, 30), (1, 20, 30)),
                                              ((1, 1, 1, 1, 500), (1, 1, 83))])
def test_thumbnails_keep_bright_spots(shape, small):
    image = np.zeros(shape, np.uint16)
    image[0, -1, -1, 0, 7] = 9
    found = thumbnail(image)
    assert found.shape == small and found[-1].max() == 9 and found.dtype == np.uint16


def test_which_features_are_drawn():
    columns = {"a": {"statistic": "mean over sites"}, "a_sd": {"statistic": "standard deviation between sites"},
               "b": {"statistic": "mean over objects"}, "kind": {"statistic": "the value that all sites have"}}
    assert choose_features(columns, None) == ["a", "b"] and choose_features(columns, ["a_sd"]) == ["a_sd"]
    assert choose_features({}, None) == choose_features({}, ["a"]) == []
    with pytest.raises(ConfigError, match="the steps measure a, a_sd, b, kind, but no 'c'"):
        choose_features(columns, ["a", "c"])


def test_a_montage_without_any_well(tmp_path):
    montage(PLACES, {}, "Plate 7", tmp_path / "montage.png")
    assert (tmp_path / "montage.png").stat().st_size > 1000
