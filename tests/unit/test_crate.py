"""The RO-Crate of a run: valid by the profile's own validator, and complete."""

import hashlib
import io
import json
from importlib.resources import files

import pytest
import requests_cache
from requests.adapters import HTTPAdapter
from rocrate_validator import services
from rocrate_validator.models import Severity
from urllib3 import HTTPResponse

from openhcs_omero.core.crate import CRATE, crate_of
from openhcs_omero.core.outputs.base import ImageId

RUN = {
    "run": "0123456789abcdef",
    "begun": "2026-11-28T01:00:00+00:00",
    "finished": "2026-11-28T02:00:00+00:00",
    "plate": "/omero/plate_7",
    "output": "processed",
    "versions": {"openhcs_omero": "0.2.0", "snakemake": "9.27.1", "python": "3.11.7", "omero_server": "5.6.0"},
    "steps": [
        {
            "call": "openhcs_omero.processing.spots:count_spots",
            "name": None,
            "channels": [0],
            "params": {"diameter": 9},
            "source": "ab" * 32,
            "distributions": {"scikit-image": "0.26.0"},
        },
        {
            "call": "Rscript {config_dir}/texture.R {images} {out}",
            "name": None,
            "channels": None,
            "params": {"version": "texture 1.2", "files": {}},
            "source": "cd" * 32,
            "distributions": {"Rscript": "texture 1.2"},
        },
    ],
    "wells": {"processed": ["A01"], "failed": []},
    "configuration": {"plates": [7], "steps": [{"call": "openhcs_omero.processing.spots:count_spots"}]},
}
FAILED = {"plate": "7", "well": "A02", "site": 1, "step": "step 1", "reason": "ValueError: dark", "log": "x.log"}


class Shipped(HTTPAdapter):
    """Answers with the JSON-LD context of RO-Crate 1.1, the one page that the validator asks the network for.

    rocrate ships the context of version 1.3, which differs in the address of the Bioschemas terms.
    """

    def send(self, request, **options):
        context = (files("rocrate") / "data" / "ro-crate.jsonld").read_text()
        body = io.BytesIO(context.replace("https://bioschemas.org/terms/", "https://bioschemas.org/").encode())
        headers = {"Content-Type": "application/ld+json"}
        raw = HTTPResponse(body, headers, 200, reason="OK", preload_content=False, request_url=request.url)
        return self.build_response(request, raw)


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """The validator's cache, with that page."""
    path = tmp_path_factory.mktemp("contexts") / "cache"
    with requests_cache.CachedSession(str(path)) as session:
        session.mount("https://", Shipped())
        assert session.get("https://w3id.org/ro/crate/1.1/context").ok
    return path


@pytest.mark.parametrize("failed", [[], [FAILED]], ids=["all wells", "a failed well"])
def test_the_crate_is_valid(tmp_path, contexts, failed):
    (tmp_path / "features.csv").write_text("well,x\nA01,1\n")
    run = {**RUN, "wells": {"processed": ["A01"], "failed": failed}}
    read = [ImageId("A01, site 1", 11, "aa" * 20), ImageId("A01, site 2", 12, "bb" * 20)]
    (tmp_path / "Snakefile").write_text("rule all:\n    input: []\n")
    place = "/omero/plate_7_processed"
    text = crate_of(run, "Jane Doe", place, read, read[:1], tmp_path / "Snakefile", [tmp_path / "features.csv"])
    (tmp_path / CRATE).write_text(text)
    result = services.validate(
        services.ValidationSettings(
            rocrate_uri=str(tmp_path),
            profile_identifier="workflow-run-crate-0.5",
            requirement_severity=Severity.REQUIRED,
            offline=True,
            cache_path=str(contexts),
        )
    )
    assert not result.has_issues(), [issue.message for issue in result.get_issues()]
    assert result.executed_checks

    graph = {entity["@id"]: entity for entity in json.loads(text)["@graph"]}
    [action] = [entity for entity in graph.values() if entity["@type"] == "CreateAction"]
    assert (action["startTime"], action["endTime"]) == (RUN["begun"], RUN["finished"])
    assert graph[action["agent"]["@id"]]["name"] == "Jane Doe"
    assert action["actionStatus"].endswith("FailedActionStatus" if failed else "CompletedActionStatus")
    assert ("error" in action) == bool(failed)
    source = graph[action["object"][0]["@id"]]
    assert [(graph[part["@id"]]["identifier"], graph[part["@id"]]["sha1"]) for part in source["hasPart"]] == [
        ("Image:11", "aa" * 20),
        ("Image:12", "bb" * 20),
    ]
    assert graph["features.csv"]["sha1"] == hashlib.sha1(b"well,x\nA01,1\n").hexdigest()
    [tool] = [entity for entity in graph.values() if entity.get("name") == "Rscript"]
    assert (tool["@type"], tool["softwareVersion"]) == ("SoftwareApplication", "texture 1.2")
