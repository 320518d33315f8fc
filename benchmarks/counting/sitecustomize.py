"""Counts calls to OMERO's services in all processes that have this folder in PYTHONPATH.

Each call adds a line with its name to the file OPENHCS_BENCH_CALLS.
"""

import importlib.abc
import importlib.util
import os
import sys

CONNECTION = "openhcs_omero.omero.connection"  # which every process imports that speaks to OMERO


class Finder(importlib.abc.MetaPathFinder):
    """Lets calls be counted as soon as `CONNECTION` is imported."""

    def find_spec(self, name, path, target=None):
        if name != CONNECTION:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            from benchmarks.common import count_calls

            execute(module)
            calls = os.open(os.environ["OPENHCS_BENCH_CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            count_calls(lambda name: os.write(calls, f"{name}\n".encode()))

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
