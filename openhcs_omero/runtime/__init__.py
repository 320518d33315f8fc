"""Find or start an OMERO server, and run pipelines next to it for remote clients."""
