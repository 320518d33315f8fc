"""Process a high-content screen where it is stored: a plate in OMERO, through Snakemake, and back into OMERO.

Other code may rely on the names in `__all__`. Importing this package imports nothing else: each name is imported when
it is first used.

Examples
--------
>>> from openhcs_omero import PipelineOrchestrator
>>> from openhcs_omero.processing.spots import count_spots
>>> orchestrator = PipelineOrchestrator(plate_paths=[123], steps=[count_spots], global_config={"output": "spots"})
>>> orchestrator.run()  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from openhcs_omero.version import __version__

if TYPE_CHECKING:
    from openhcs_omero.core.orchestrator.orchestrator import PipelineError, PipelineOrchestrator, PlateResult
    from openhcs_omero.core.steps.function_step import FunctionStep
    from openhcs_omero.errors import OpenHCSError
    from openhcs_omero.io.base import StorageBackend, VirtualBackend, storage_registry
    from openhcs_omero.io.filemanager import FileManager
    from openhcs_omero.io.formats import OMEROFileFormatRegistry
    from openhcs_omero.io.omero_local import OMEROLocalBackend
    from openhcs_omero.microscopes.base import MicroscopeHandler
    from openhcs_omero.microscopes.detect import handler_of
    from openhcs_omero.microscopes.omero import OMEROHandler
    from openhcs_omero.omero.derived import find_derived, list_derived
    from openhcs_omero.runtime.omero_instance_manager import OMEROInstanceManager
    from openhcs_omero.runtime.zmq_execution_client import ZMQExecutionClient

__all__ = [
    "FileManager",
    "FunctionStep",
    "MicroscopeHandler",
    "OMEROFileFormatRegistry",
    "OMEROHandler",
    "OMEROInstanceManager",
    "OMEROLocalBackend",
    "OpenHCSError",
    "PipelineError",
    "PipelineOrchestrator",
    "PlateResult",
    "StorageBackend",
    "VirtualBackend",
    "ZMQExecutionClient",
    "__version__",
    "find_derived",
    "handler_of",
    "list_derived",
    "storage_registry",
]

_MODULES = {
    "FileManager": "io.filemanager",
    "FunctionStep": "core.steps.function_step",
    "MicroscopeHandler": "microscopes.base",
    "OMEROFileFormatRegistry": "io.formats",
    "OMEROHandler": "microscopes.omero",
    "OMEROInstanceManager": "runtime.omero_instance_manager",
    "OMEROLocalBackend": "io.omero_local",
    "OpenHCSError": "errors",
    "PipelineError": "core.orchestrator.orchestrator",
    "PipelineOrchestrator": "core.orchestrator.orchestrator",
    "PlateResult": "core.orchestrator.orchestrator",
    "StorageBackend": "io.base",
    "VirtualBackend": "io.base",
    "ZMQExecutionClient": "runtime.zmq_execution_client",
    "find_derived": "omero.derived",
    "handler_of": "microscopes.detect",
    "list_derived": "omero.derived",
    "storage_registry": "io",  # whose import registers the backends
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
