"""The password in OMERO_PASSWORD is read once, and no child process or output of this process contains it."""

import json
import os
import subprocess
import sys

import pytest

CODE = """
import json, os, subprocess, sys
from openhcs_omero import password
seen = lambda: "s3cret-w0rd" in open("/proc/self/environ").read()
before = seen()
first, second = password.read(), password.read()
child = ["sh", "-c", "echo ${OMERO_PASSWORD-none} $LEFT"]
children = [subprocess.check_output(child, text=True, env=env) for env in (None, password.child_environment())]
extra = password.child_environment({"LEFT": "b"})["LEFT"]
os.environ["OMERO_PASSWORD"] = "later"
third = password.read()
password.forget()
print(json.dumps([before, seen(), first, second, children, extra, third, password.read()]))
"""


def run(code, **environment):
    return json.loads(subprocess.check_output([sys.executable, "-c", code], env={**os.environ, **environment}))


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="the system shows no environments in /proc")
def test_the_password_is_read_once_and_leaves_the_environment():
    found = run(CODE, OMERO_PASSWORD="s3cret-w0rd", LEFT="a")
    assert found == [True, False, *["s3cret-w0rd"] * 2, ["none a\n"] * 2, "b", "later", ""]


def test_no_password():
    environment = {key: value for key, value in os.environ.items() if key != "OMERO_PASSWORD"}
    code = "import json; from openhcs_omero import password; print(json.dumps(password.read()))"
    assert json.loads(subprocess.check_output([sys.executable, "-c", code], env=environment)) == ""
    assert run(code, OMERO_PASSWORD="") == ""
