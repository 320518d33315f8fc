"""Benchmarks that compare this package with its peers: `make bench`, or `python -m benchmarks --help`.

Each benchmark is a module with ``measure(server, quick)``, which yields `common.Ratio`s.
"""
