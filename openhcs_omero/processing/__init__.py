"""The processing steps that come in the box."""
