"""BaSiC on a plate whose illumination is known. It needs an environment of its own: `make test-basic`."""

import numpy as np
import pytest

from openhcs_omero.processing.illumination import estimate_illumination
from openhcs_omero.processing.synthetic import Screen, illumination, sites

pytest.importorskip("basicpy", reason="basicpy needs an environment of its own: make test-basic")


@pytest.mark.parametrize("channel", [0, 1])
def test_basic_finds_the_light(channel):
    planes = [image[channel] for _, image in sites(Screen(rows=2, columns=12, sites=2))]
    found, true = estimate_illumination(iter(planes), "basic", dark=100), illumination(512, channel)
    assert found.shape == (512, 512) and found.dtype == np.float32 and np.isclose(found.mean(), 1, atol=1e-3)
    assert np.std(found / true) < 0.07 < 0.2 < np.std(1 / true)


def test_dark_planes_and_none():
    assert (estimate_illumination(iter([np.zeros((8, 6), np.uint16)] * 3), "basic") == np.ones((8, 6))).all()
    with pytest.raises(ValueError, match="no plane"):
        estimate_illumination(iter([]), "basic")
