"""Where the results of a plate go: a derived plate in OMERO, or a folder."""
