"""Types of the parameters of steps, with their units and limits.

`openhcs-omero steps` shows them, and a value outside of the limits is refused before anything runs. This works for any
function whose parameters are annotated: ``radius: Annotated[float, Gt(0), Unit("px")] = 5.0``.
"""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Unit

Pixels = Annotated[float, Gt(0), Unit("px")]
Counts = Annotated[float, Unit("counts")]
FieldFraction = Annotated[float, Gt(0), Unit("of the shorter side")]
NoiseLevels = Annotated[float, Ge(0), Unit("times the noise")]
Correlation = Annotated[float, Ge(-1), Le(1)]
Upsampling = Annotated[int, Ge(1), Le(100), Unit("1/px")]
Threshold = Literal["site", "plate"] | Annotated[float, Unit("counts")]
