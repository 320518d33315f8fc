"""The services of a session, one module per Slice interface or family of them; dispatch.py makes servants of them."""
