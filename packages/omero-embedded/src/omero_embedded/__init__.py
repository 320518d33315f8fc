"""An OMERO server in Python, for trying out, teaching and testing; not for keeping data."""
import omero.all  # (the only order in which omero-py's generated modules can be imported)
import omero.model

for _name in ("ImportJob", "Path"):  # these warn on stderr of their deprecation when one is made, as the schema does
    getattr(omero.model, _name + "I").deprecations_warned.add(_name)
