"""Display colors of channels by the dye or protein that they are named for."""

from __future__ import annotations

import re

Color = tuple[int, int, int]

BLUE, CYAN, GREEN, YELLOW = (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0)
ORANGE, RED, MAGENTA, GRAY = (255, 128, 0), (255, 0, 0), (255, 0, 255), (255, 255, 255)

_COLORS: tuple[tuple[str, Color], ...] = (
    (r"dapi|hoechst|bfp|(alexa|af) ?405|(alexa|af) ?350|nucle(us|i)", BLUE),
    (r"e?cfp|(alexa|af) ?430", CYAN),
    (r"e?gfp|fitc|(alexa|af) ?488|cy2|calcein", GREEN),
    (r"e?yfp|(alexa|af) ?532", YELLOW),
    (r"tritc|cy3|(alexa|af) ?5(46|55)|dsred|tmrm", ORANGE),
    (r"texas ?red|m?cherry|rfp|(alexa|af) ?5(68|94)|mitotracker", RED),
    (r"cy5|(alexa|af) ?6(33|47|60|80)|draq5", MAGENTA),
    (r"brightfield|bright field|bf|dic|phase|transmitted", GRAY),
)


def color_of(name: str | None) -> Color | None:
    """The color close to the emission of the dye in a channel's name; None if it names no dye that is known.

    Returns
    -------
    tuple of int, optional
        (red, green, blue), each from 0 to 255.
    """
    text = re.sub(r"[\s_-]+", " ", (name or "").lower())
    return next((color for dyes, color in _COLORS if re.search(rf"\b({dyes})\b", text)), None)
