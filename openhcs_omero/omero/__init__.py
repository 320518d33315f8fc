"""All code that talks to an OMERO server; no other package does."""
