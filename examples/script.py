"""Count bright spots on a plate in OMERO, and print the wells with the most.

    export OMERO_HOST=omero.example.org OMERO_USER=me
    python examples/script.py 123

The password comes from OMERO_PASSWORD, a session of `openhcs-omero login`, or a prompt. The workflow keeps its files in
`results/` of the working directory, so running the script again computes nothing.
"""

import argparse

from openhcs_omero.core.orchestrator.orchestrator import FunctionStep, PipelineOrchestrator
from openhcs_omero.io.base import storage_registry
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.microscopes.omero import OMEROHandler
from openhcs_omero.processing.illumination import correct_illumination
from openhcs_omero.processing.spots import count_spots
from openhcs_omero.runtime.omero_instance_manager import OMEROInstanceManager


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plate", type=int, help="OMERO id of the plate")
    plate = parser.parse_args().plate

    with OMEROInstanceManager() as manager:
        backend = OMEROLocalBackend(omero_conn=manager.get_connection())
        storage_registry["omero_local"] = backend

        handler = OMEROHandler(backend=backend)
        print(f"plate {plate} has channels {sorted(handler.get_channel_values(plate))}")

        orchestrator = PipelineOrchestrator(
            plate_paths=[plate],
            steps=[FunctionStep(correct_illumination), FunctionStep(count_spots, channels=[0], sigma=1.5)],
            global_config={"output": "spots", "cores": 2},
        )
        result = orchestrator.run()[plate]

    spots = result.tables["features"].groupby("well")["spots_c0"].sum()
    print(f"images: plate {result.derived_plate} in OMERO; tables: {', '.join(sorted(result.annotations[plate]))}")
    print(spots.sort_values(ascending=False).head(5).to_string(header=False))


if __name__ == "__main__":
    main()
