"""The plate model: paths, well and file names, structures, pixel types. It imports neither OMERO nor Ice."""
