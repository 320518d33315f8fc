"""The supported pixel types. OMERO's `bit`, `complex` and `double-complex` are not supported."""

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
"""numpy's names of the pixel types, by OMERO's names."""

OMERO_NAMES = {numpy: omero for omero, numpy in NUMPY_NAMES.items()}
"""OMERO's names of the pixel types, by numpy's names."""
