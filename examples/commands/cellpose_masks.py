"""Segment the images of a folder with Cellpose: python cellpose_masks.py MODEL IMAGES OUT"""

import sys
from pathlib import Path

import tifffile
from cellpose import models

model_file, images, out = sys.argv[1:]
model = models.CellposeModel(gpu=True, pretrained_model=model_file)
for path in sorted(Path(images).glob("*.ome.tif")):
    plane = tifffile.imread(path)
    if plane.ndim != 2:
        sys.exit(f"{path.name} has the shape {plane.shape}: choose one channel, one z and one timepoint")
    masks = model.eval(plane, diameter=30)[0]
    tifffile.imwrite(Path(out, path.name.replace(".ome.tif", "_labels.tif")), masks.astype("uint32"))
    print(path.name, "has", masks.max(), "cells")
