"""The summary page of a run."""

import re

import yaml

from openhcs_omero.core.config import read_config
from openhcs_omero.core.failures import FailedWell, Failure
from openhcs_omero.core.outputs.omero import OMEROWell
from openhcs_omero.core.plan import Plan
from openhcs_omero.core.records import DerivedPlate, to_json
from openhcs_omero.core.state import NAME, PlateState, WellState
from openhcs_omero.core.summary_page import summary_html, write_summary_page
from openhcs_omero.core.well_file import well_file, write_well_file
from openhcs_omero.io.atomic import write

RUN = {
    "steps": [
        {"call": "m:f", "channels": [0], "params": {"level": "<b>"}, "distributions": {"scikit-image": "0.26.0"}}
    ],
    "versions": {"snakemake": "9.27.1"},
    "configuration": {"plates": [7, 8]},
}


def cells(page):
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr class.*?</tr>", page)]


def test_the_page_lists_plates_steps_and_versions(tmp_path):
    config = {
        "plates": [7, 8],
        "steps": [{"call": "m:f"}],
        "results": str(tmp_path),
        "analysis": {"web": "https://omero.example.org/"},
    }
    settings = read_config(config)
    state = PlateState(
        "/omero/plate_7", "screen <1>", 1, 600, {w: WellState("", 0, 0, 1) for w in ("A01", "A02", "A03")}, 0, 0
    )
    folder = settings.folder("7")
    write(folder / NAME, to_json(state))
    write(folder / "derived.json", to_json(DerivedPlate(9, "/omero/plate_7_processed", 7)))
    write(folder / "run.yaml", yaml.safe_dump(RUN))
    write_well_file(well_file(folder, "A01"), to_json(OMEROWell(9, ((1, "ab"),))))
    write_well_file(well_file(folder, "A02"), to_json(FailedWell(Failure("7", "A02", 1, "step 1", "dark", "x.log"))))
    plan = Plan(settings, {"7": state}, {"8": "plate 8 is gone"})
    write_summary_page(plan)
    page = (tmp_path / "summary.html").read_text()
    assert summary_html(plan) in page and "http://" not in page.replace("https://omero", "")
    assert "2 plates: 1 of 3 wells are processed" in page
    good, bad, step, *versions = cells(page)
    link = '<a href="https://omero.example.org/webclient/?show=plate-{0}">{0}</a>'
    assert good == [link.format(7), "screen &lt;1&gt;", link.format(9), "3", "1", "1", "1", "", ""]
    assert bad == [link.format(8), "", "", "", "", "", "", "", "plate 8 is gone"]
    assert step == ["1", "m:f", "[0]", "level=&#x27;&lt;b&gt;&#x27;"]
    assert versions == [["snakemake", "9.27.1"], ["scikit-image", "0.26.0"]] and "plates:" in page
