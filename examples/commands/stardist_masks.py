"""Segment the images of a folder with StarDist: python stardist_masks.py MODEL IMAGES OUT"""

import sys
from pathlib import Path

import tifffile
from csbdeep.utils import normalize
from stardist.models import StarDist2D

folder, images, out = map(Path, sys.argv[1:])
model = StarDist2D(None, name=folder.name, basedir=str(folder.parent))
for path in sorted(images.glob("*.ome.tif")):
    plane = tifffile.imread(path)
    if plane.ndim != 2:
        sys.exit(f"{path.name} has the shape {plane.shape}: choose one channel, one z and one timepoint")
    labels, _ = model.predict_instances(normalize(plane))
    tifffile.imwrite(out / path.name.replace(".ome.tif", "_labels.tif"), labels.astype("uint32"))
    print(path.name, "has", labels.max(), "nuclei")
