"""The one function that Ice 3.6 uses of the module `imp`, which Python 3.12 removed."""

from types import ModuleType as new_module  # noqa: F401
