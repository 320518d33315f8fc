"""A Workflow Run RO-Crate: how the results of a plate were made, in a form that other software reads.

The file `ro-crate-metadata.json` makes the plate's folder a crate of version 0.5 of the profile
https://www.researchobject.org/workflow-run-crate/profiles/workflow_run_crate. It names the source images and the
derived images by their OMERO ids and SHA-1, the steps, the tables, the person and the times.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from openhcs_omero.core.outputs.base import ImageId

CRATE = "ro-crate-metadata.json"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
SHA1 = {"sha1": "https://w3id.org/ro/terms/workflow-run#sha1"}
SOURCE = "https://github.com/openhcs/openhcs_omero"
STATUS = {True: "http://schema.org/CompletedActionStatus", False: "http://schema.org/FailedActionStatus"}


def crate_of(
    run: Mapping[str, Any],
    agent: str,
    derived: str,
    read: Iterable[ImageId],
    written: Iterable[ImageId],
    snakefile: Path,
    files: Sequence[Path],
) -> str:
    """Describe a run as the metadata of an RO-Crate.

    Parameters
    ----------
    run
        The content of run.yaml.
    agent
        Name of the person who ran the workflow.
    derived
        Path of the derived plate.
    read, written
        The source images and the derived images.
    snakefile, files
        The copy of the Snakefile and the other files of the crate, all in one folder.

    Returns
    -------
    str
        The content of `ro-crate-metadata.json`.
    """
    crate = ROCrate(version="1.1")
    crate.metadata.extra_terms.update(SHA1)
    root = crate.root_dataset
    crate.name = f"Results of {run['plate']}"
    crate.description = f"{run['plate']}, processed into {derived} by openhcs_omero {run['versions']['openhcs_omero']}"
    crate.license = "not stated: ask the owner of the plate"
    root["datePublished"] = run["finished"]
    profiles = [
        _add(crate, url, "CreativeWork", name=name, version=version) for url, (name, version) in PROFILES.items()
    ]
    root["conformsTo"] = profiles
    workflow = _workflow(crate, run, snakefile)
    source = _plate(crate, "source", run["plate"], read)
    result = _plate(crate, "derived", derived, written)
    configuration = _add(
        crate,
        "#configuration",
        "PropertyValue",
        name="configuration",
        value=json.dumps(run["configuration"], sort_keys=True),
    )
    tables = [_file(crate, path) for path in files]
    workflow["input"] = [_parameter(crate, "plate", source), _parameter(crate, "settings", configuration)]
    workflow["output"] = [_parameter(crate, "result", result)]
    failed = run["wells"]["failed"]
    action = _add(
        crate,
        f"#run-{run['run']}",
        "CreateAction",
        name=f"Processing of {run['plate']}",
        description=f"{len(run['wells']['processed'])} wells processed, {len(failed)} failed",
        startTime=run["begun"] or run["finished"],
        endTime=run["finished"],
        actionStatus=STATUS[not failed],
        instrument=workflow,
        agent=_add(crate, "#agent", "Person", name=agent),
        object=[source, configuration],
        result=[result, *tables],
    )
    if failed:
        action["error"] = "; ".join(f"{one['well']}: {one['step']}: {one['reason']}" for one in failed)
    root["mentions"] = [action, source, result]
    return json.dumps(crate.metadata.generate(), indent=1, ensure_ascii=False)


def _workflow(crate: ROCrate, run: Mapping[str, Any], snakefile: Path) -> Entity:
    """The workflow, its steps, and the software that each step uses."""
    versions = run["versions"]
    workflow = crate.add_workflow(snakefile, snakefile.name, main=True, lang="snakemake")
    workflow["name"], workflow["version"] = "openhcs_omero", versions["openhcs_omero"]
    workflow["url"] = SOURCE
    software = {**versions, **{name: v for step in run["steps"] for name, v in step["distributions"].items()}}
    workflow["softwareRequirements"] = [
        _add(crate, f"#{quote(f'{name}-{version}')}", "SoftwareApplication", name=name, softwareVersion=version)
        for name, version in software.items()
    ]
    workflow["step"] = [
        _add(
            crate,
            f"#step-{position}",
            "HowToStep",
            name=step["call"],
            position=str(position),
            description=json.dumps({key: step[key] for key in ("name", "channels", "params", "source")}),
        )
        for position, step in enumerate(run["steps"], 1)
    ]
    return workflow


def _plate(crate: ROCrate, role: str, path: str, images: Iterable[ImageId]) -> Entity:
    """A plate as a collection of its images."""
    parts = [
        _add(
            crate,
            f"#{role}-image-{number}",
            "ImageObject",
            name=image.name,
            **({} if image.image_id is None else {"identifier": f"Image:{image.image_id}"}),
            **({} if image.sha1 is None else {"sha1": image.sha1}),
        )
        for number, image in enumerate(images, 1)
    ]
    return _add(crate, f"#{role}-plate", "Collection", name=path, identifier=path, hasPart=parts)


def _file(crate: ROCrate, path: Path) -> Entity:
    content = path.read_bytes()
    about = {"name": path.name, "sha1": hashlib.sha1(content).hexdigest(), "contentSize": str(len(content))}
    return crate.add_file(path, path.name, properties=about)


def _parameter(crate: ROCrate, name: str, example: Entity) -> Entity:
    parameter = _add(
        crate,
        f"#parameter-{name}",
        "FormalParameter",
        name=name,
        additionalType=example.type,
        workExample=example,
        conformsTo={"@id": "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"},
    )
    example["exampleOfWork"] = parameter
    return parameter


def _add(crate: ROCrate, id_: str, kind: str, **properties: Any) -> Entity:
    entity = crate.add(ContextEntity(crate, id_, properties={"@type": kind}))
    for name, value in properties.items():
        entity[name] = value
    return entity
