"""The plate model: paths, names of wells and files, structures, pixel types. It imports no OMERO and no Ice."""
