"""Model objects for the tests of the embedded server, made and asked for as any client does it."""

import omero
import omero.callbacks
import omero.clients
import omero.cmd
from omero.rtypes import rdouble, rint, rstring, unwrap
from omero.sys import ParametersI

WRAP = {str: rstring, int: rint, float: rdouble}


def new(cls, **fields):
    """A new object; texts and numbers become rtypes."""
    made = getattr(omero.model, cls + "I")()
    for name, value in fields.items():
        setattr(made, name, WRAP.get(type(value), lambda v: v)(value))
    return made


def ref(cls, oid):
    """An unloaded object."""
    return getattr(omero.model, cls + "I")(oid, False)


def image(name="image", channels=2):
    """An image with pixels and channels, nothing of it saved."""
    pixels = new(
        "Pixels",
        sizeX=3,
        sizeY=2,
        sizeZ=1,
        sizeC=channels,
        sizeT=1,
        sha1="Pending...",
        pixelsType=new("PixelsType", value="uint16"),
        dimensionOrder=new("DimensionOrder", value="XYCZT"),
    )
    for number in range(channels):
        pixels.addChannel(new("Channel", logicalChannel=new("LogicalChannel", name=f"channel {number}")))
    made = new("Image", name=name)
    made.addPixels(pixels)
    return made


def plate(name="plate", wells=2, sites=2):
    """A plate of wells in row 0 with an image a site, nothing of it saved."""
    made = new("Plate", name=name)
    for column in range(wells):
        well = new("Well", row=0, column=column)
        for site in range(sites):
            well.addWellSample(new("WellSample", image=image(f"{column} {site}")))
        made.addWell(well)
    return made


def annotated(target, text, kind="Comment", ns=None):
    """A link from a stored object to a new annotation, not saved."""
    link = new(type(target).__name__[:-1] + "AnnotationLink", parent=target.proxy())
    link.child = new(kind + "Annotation", textValue=text)
    link.child.ns = None if ns is None else rstring(ns)
    return link


def save(conn, obj):
    return conn.getUpdateService().saveAndReturnObject(obj, conn.SERVICE_OPTS)


def rows(conn, hql, **ids):
    """A projection's rows as plain values."""
    params = ParametersI()
    for name, value in ids.items():
        params.addLong(name, value)
    return unwrap(conn.getQueryService().projection(hql, params, conn.SERVICE_OPTS))


def count(conn, *kinds):
    """How many objects of each class the user owns; those of which there are none are left out."""
    hql = "select count(x) from %s x where x.details.owner.id = :me"  # a real server shows everybody its own files
    found = {kind: rows(conn, hql % kind, me=conn.getUserId())[0][0] for kind in kinds}
    return {kind: number for kind, number in found.items() if number}


def run(conn, request):
    """The answer to a request."""
    callback = conn.c.submit(request, loops=120, ms=500, failonerror=False)
    try:
        return callback.getResponse()
    finally:
        callback.close(True)
