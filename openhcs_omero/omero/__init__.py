"""Everything that speaks to an OMERO server, and nothing else does."""
