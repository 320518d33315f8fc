"""docs/tutorial.md: every command runs as printed, in page order, on a plate smaller than the demo's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omero.gateway import BlitzGateway
from omero_embedded import process

from openhcs_omero.microscopes.importing import import_folder
from openhcs_omero.processing.synthetic import Screen, write_plate

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
READY = (
    "python -c 'from openhcs_omero.runtime.omero_instance_manager import OMEROInstanceManager as M; "
    "assert M().wait_for_ready(60)'\n"
)


def commands():
    """The page as a script that writes its files and runs its indented lines."""
    script = []
    for title, content, command in re.findall(
        r"^```\w+ title=\"(.*?)\"\n(.*?)^```|^((?: {4}[^\n]*\n)+)", PAGE, re.MULTILINE | re.DOTALL
    ):
        script.append(
            f"cat > {title} <<'END_OF_FILE'\n{content}END_OF_FILE\n"
            if title
            else re.sub(r"^ {4}", "", command, flags=re.MULTILINE)
        )
    return script


@pytest.fixture
def clone(tmp_path):
    """A folder that looks like a clone after `make demo`."""
    for name in ("Snakefile", "workflow", "config", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".demo").mkdir()
    (tmp_path / ".demo" / "root-password").write_text("secret\n")
    write_plate(tmp_path / "images", Screen(rows=1, sites=1, size=256))
    with process.start(tmp_path / ".demo" / "server", 0, tmp_path / ".demo" / "root-password") as server:
        conn = BlitzGateway("root", "secret", host=server.host, port=server.port)
        assert conn.connect(), conn.getLastError()
        assert import_folder(conn, tmp_path / "images", "Demo screen 1") == 1
        conn.close()
        port = server.port
    return tmp_path, port


@pytest.mark.slow
def test_the_tutorial(clone):
    folder, port = clone
    script = "".join(commands())
    assert script.count("snakemake ") >= 8 and script.count("openhcs-omero ") >= 6
    for printed, here in (
        ("make demo\n", ""),
        ("source .venv/bin/activate\n", ""),
        ("14064", str(port)),
        ("openhcs-omero info plate_1\n", f"{READY}openhcs-omero info plate_1\n"),
    ):
        assert printed in script
        script = script.replace(printed, here, 1 if printed.startswith("openhcs") else -1)
    [bad] = re.findall(r"^.*percent\".*$", script, re.MULTILINE)
    script = script.replace(bad, f"{bad} && exit 9 || true")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMERO_")}
    script = f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"  # stops the server after a failure, too
    done = subprocess.run(
        ["bash", "-eux", "-c", script],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={
            **environment,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONWARNINGS": "ignore",
            "OMERO_SESSIONDIR": str(folder / "sessions"),
        },
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    assert "Nothing to be done" in done.stdout
    assert "percent" in done.stdout.split(bad)[-1] and "Traceback" not in done.stdout
    rows = (folder / "tutorial" / "results" / "plate_1_tutorial" / "wells.csv").read_text().splitlines()
    assert len(rows) == 7 and "brightness_c1" in rows[0]
    assert (folder / "wells.csv").exists() and (folder / "A01.tif").exists()
    assert (folder / "tutorial" / "report.html").stat().st_size > 100_000
