"""Steps: loading, hashing and running them, and naming them from Python."""
