"""omero-py's generated modules, imported in the one order that works. Rooms that use omero-py import this first."""
import omero.all
import omero.model

for _name in ("ImportJob", "Path"):  # the schema makes an object of every class, and these would warn on stderr
    getattr(omero.model, _name + "I").deprecations_warned.add(_name)
