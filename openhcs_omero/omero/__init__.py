"""All code that talks to an OMERO server; no other package does."""

import logging

# omero-py logs a traceback on import if the home folder can't be written; it then uses another folder for its own files
logging.getLogger("omero.util.TempFileManager").setLevel(logging.CRITICAL + 1)
