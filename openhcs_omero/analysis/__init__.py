"""From measurements to answers: plate maps, quality, normalization, hits and dose response.

Pure functions on pandas tables with one row per well. They need no OMERO server, no images and no workflow.
"""
