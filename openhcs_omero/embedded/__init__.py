"""An OMERO server in Python, for trying out, teaching and testing; not for keeping data."""
