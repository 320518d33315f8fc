"""HQL: a Lark grammar whose queries are compiled to SQL over the model's tables."""

from omero_embedded import omeropy  # noqa: F401
