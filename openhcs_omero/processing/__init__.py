"""The processing steps that come with this package."""
