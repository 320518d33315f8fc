"""Which classes of objects each graph request takes as its targets."""

from __future__ import annotations

from collections.abc import Iterable

from omero_embedded.model.schema import Entity, schema

# OMERO's own lists. A class stands for its subclasses too, and IAnnotationLink for every link to an annotation.
_LINKED = """Annotation IAnnotationLink Dataset DatasetImageLink Project ProjectDatasetLink Folder FolderImageLink
    FolderRoiLink"""
_FINDING = f"""Instrument {_LINKED} Channel Image LogicalChannel OriginalFile Pixels PixelsOriginalFileMap PlaneInfo
    ChannelBinding CodomainMapContext ProjectionDef QuantumDef RenderingDef Thumbnail Experiment MicrobeamManipulation
    Fileset FilesetEntry FilesetJobLink Link Job JobOriginalFileLink ExternalInfo AffineTransform Roi Shape Plate
    PlateAcquisition Reagent Screen ScreenPlateLink Well WellReagentLink WellSample StatsInfo"""
LEGAL: dict[str, tuple[str, ...]] = {
    name: tuple(listed.split())
    for name, listed in {
        "Chgrp2": """Instrument Annotation Dataset Project Folder Image OriginalFile RenderingDef Thumbnail Experiment
        Fileset Link Job Roi Plate Screen""",
        "Chmod2": "ExperimenterGroup",
        "Chown2": f"""Instrument {_LINKED} Image OriginalFile RenderingDef Thumbnail Experiment Fileset Link Job
        JobOriginalFileLink Roi Plate Reagent Screen ScreenPlateLink WellReagentLink""",
        "Delete2": f"""DetectorSettings FilterSetEmissionFilterLink FilterSetExcitationFilterLink ImagingEnvironment
        Instrument LightPathEmissionFilterLink LightPathExcitationFilterLink LightSettings Microscope ObjectiveSettings
        StageLabel TransmittanceRange {_LINKED} Channel Image LogicalChannel OriginalFile PixelsOriginalFileMap
        ProjectionDef RenderingDef Thumbnail Experiment MicrobeamManipulation Fileset FilesetJobLink Link Job
        JobOriginalFileLink ExternalInfo GroupExperimenterMap Namespace ShareMember AffineTransform Roi Shape Plate
        PlateAcquisition Reagent Screen ScreenPlateLink Well WellReagentLink WellSample StatsInfo""",
        "DiskUsage2": f"{_FINDING} Experimenter ExperimenterGroup",
        "Duplicate": f"""Instrument {_LINKED} Channel Image LogicalChannel OriginalFile Pixels PlaneInfo ChannelBinding
        CodomainMapContext QuantumDef RenderingDef Thumbnail Experiment MicrobeamManipulation Fileset FilesetJobLink
        Link Job JobOriginalFileLink ExternalInfo AffineTransform Roi Shape Plate PlateAcquisition Reagent Screen
        ScreenPlateLink Well WellReagentLink WellSample StatsInfo""",
        "FindChildren": _FINDING,
        "FindParents": _FINDING,
    }.items()
}
ANY_ANNOTATION_LINK, ANY_LINK = "IAnnotationLink", ("Link", "ILink")
_JAVA = {ANY_ANNOTATION_LINK: "ome.model.IAnnotationLink", "Link": "ome.model.internal.Link"}


def is_class(name: str) -> bool:
    """Whether a request may name such a class."""
    return name.rpartition(".")[2] in (ANY_ANNOTATION_LINK, *ANY_LINK) or schema().find(name) is not None


def is_one_of(entity: Entity, names: Iterable[str]) -> bool:
    """Whether a class is one of those that are named, or below one of them."""
    return any(_is(entity, name) for name in names)


def _is(entity: Entity, name: str) -> bool:
    short = name.rpartition(".")[2]
    if short == ANY_ANNOTATION_LINK:
        return entity.name.endswith("AnnotationLink")
    if short in ANY_LINK:
        return entity.is_link
    found = schema().find(name)
    return found is not None and entity.is_a(found.name)


def java_names(request: str) -> list[str]:
    """The full names of the classes that a request takes."""
    return [_JAVA.get(name) or schema()[name].java for name in LEGAL[request]]
