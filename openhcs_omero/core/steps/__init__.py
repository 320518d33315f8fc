"""Steps: how they are loaded, hashed, run, and named from Python."""
