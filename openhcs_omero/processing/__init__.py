"""The processing steps that come with this package."""

STEPS = tuple(
    f"{__name__}.{step}"
    for step in (
        "projection:project_z",
        "registration:align_channels",
        "registration:align_timepoints",
        "illumination:correct_illumination",
        "background:subtract_background",
        "cells:segment_cells",
        "cells:cell_counting_cpu",
        "whole_cells:segment_whole_cells",
        "spots:count_spots",
        "spots:count_spots_per_cell",
        "objects:measure_objects",
    )
)
"""The steps as `call` names them in the configuration, in the order of a usual chain."""
