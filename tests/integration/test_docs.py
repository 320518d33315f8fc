"""The Python blocks of docs/ run one after the other, and print what the pages say.

The expected output stands beside the `print` or in whole-line comments below it. Plate 123 has two wells.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from wire import make_plate

ROOT = Path(__file__).parents[2]
PAGES = {
    page.stem: re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) for page in (ROOT / "docs").rglob("*.md")
}
# these pages need more: test_instance_manager, test_folders, test_orchestrator, test_zmq
ELSEWHERE = {"instance", "microscopes", "orchestrator", "zmq"}


def expected(code: str) -> list[str]:
    """The output that the code says it prints."""
    return re.findall(r"^ *print\(.*\)  # (.*)$|^# (.*)$", code, re.MULTILINE)


@pytest.mark.parametrize("page", sorted(page for page, blocks in PAGES.items() if blocks and page not in ELSEWHERE))
def test_the_code_of_a_page(page, omero_server, conn, tmp_path):
    plate = make_plate(conn, {"A01": 2, "B03": 1}, shape=(1, 2, 1, 64, 48))
    code = re.sub(r"\b123\b|(?<=plate_)123", str(plate), "\n".join(PAGES[page]))
    (tmp_path / "page.py").write_text(code)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("OMERO_")},
        "OMERO_HOST": omero_server.host,
        "OMERO_PORT": str(omero_server.port),
        "OMERO_PASSWORD": "pw",
        "OMERO_USER": conn.getUser().getName(),
        "OMERO_SESSIONDIR": str(tmp_path / "sessions"),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "page.py"],
        cwd=tmp_path,
        env=environment,
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["".join(found) for found in expected(code)]
    said = done.stderr.splitlines()  # nothing but the warning that nobody checks the certificate of the tests' server
    assert [line for line in said if not line.startswith("warning: the identity of the OMERO server")] == []
    assert not list((tmp_path / "sessions").rglob("*-*-*"))
