"""BaSiC on planes whose illumination is known. It needs an environment of its own: `make test-basic`."""

import numpy as np
import pytest

from openhcs_omero.processing.illumination import estimate_illumination

pytest.importorskip("basicpy", reason="basicpy needs an environment of its own: make test-basic")


def test_basic_finds_the_light():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :200]
    light = 1.4 - 0.9 * ((y - 70) ** 2 + (x - 120) ** 2) / 120**2
    light = np.clip(light, 0.2, None) / np.clip(light, 0.2, None).mean()
    planes = []
    for _ in range(40):
        cells = sum(
            rng.uniform(200, 900) * np.exp(-((y - v) ** 2 + (x - u) ** 2) / 50)
            for v, u in rng.uniform(0, (160, 200), (15, 2))
        )
        planes.append(rng.poisson(100 + (300 + cells) * light).astype(np.uint16))
    found = estimate_illumination(iter(planes), "basic", dark=100)
    assert found.shape == (160, 200) and found.dtype == np.float32 and np.isclose(found.mean(), 1, atol=1e-3)
    assert np.std(found / light) < 0.03 < 0.2 < np.std(1 / light)


def test_dark_planes_and_none():
    assert (estimate_illumination(iter([np.zeros((8, 6), np.uint16)] * 3), "basic") == np.ones((8, 6))).all()
    with pytest.raises(ValueError, match="no plane"):
        estimate_illumination(iter([]), "basic")
