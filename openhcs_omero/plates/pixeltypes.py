"""The pixel types that are read, processed and written; OMERO has `bit`, `complex` and `double-complex` besides."""

NUMPY_NAMES = {
    "int8": "int8",
    "uint8": "uint8",
    "int16": "int16",
    "uint16": "uint16",
    "int32": "int32",
    "uint32": "uint32",
    "float": "float32",
    "double": "float64",
}
"""numpy's names by OMERO's."""

OMERO_NAMES = {numpy: omero for omero, numpy in NUMPY_NAMES.items()}
"""OMERO's names by numpy's."""
