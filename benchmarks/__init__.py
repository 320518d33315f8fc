"""What is measured, beside the peers that it is measured against: `make bench`, or `python -m benchmarks --help`.

Each module but `common` and `run` is a benchmark: it has ``measure(server, quick)``, which yields `common.Ratio`s.
"""
