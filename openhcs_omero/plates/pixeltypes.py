"""The supported pixel types. OMERO's `complex` and `double-complex` are not supported; `bit` can only be read."""

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
"""OMERO's names of the pixel types that are written, by numpy's names."""

READ_NAMES = {"bit": "bool", **NUMPY_NAMES}
"""numpy's names of the pixel types that are read, by OMERO's names. `bool` is read as uint8, 0 or 1."""

READABLE = tuple(READ_NAMES.values())
