"""Starting an OMERO server and finding it; running pipelines beside it for clients elsewhere."""
