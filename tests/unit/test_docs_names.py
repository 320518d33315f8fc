"""The names in the documentation exist: modules and functions, files, make targets, commands and their options."""

import importlib
import re
import subprocess
from pathlib import Path

import pytest
import typer

from openhcs_omero.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / "docs").rglob("*.md"),
    *(
        ROOT / name
        for name in (
            "README.md",
            "CONTRIBUTING.md",
            "SECURITY.md",
            "config/README.md",
            "packages/omero-embedded/README.md",
        )
    ),
]
FOLDERS = {
    "benchmarks",
    "cluster",
    "config",
    "docs",
    "envs",
    "examples",
    "openhcs_omero",
    "packages",
    "profiles",
    "tests",
    "workflow",
}


def code_of(text):
    """Every code span and code block, line by line."""
    blocks = re.findall(r"```.*?\n(.*?)```", text, re.DOTALL)
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    indented = re.findall(r"^(?: {4}|\t)(.+)$", rest, re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", rest)
    return [line for block in [*blocks, *indented, *spans] for line in block.splitlines()]


def found(pattern, text):
    return sorted({match for line in code_of(text) for match in re.findall(pattern, line)})


def imported(name):
    """The object that a dotted name or module:function refers to."""
    parts = name.replace(":", ".").rstrip(".").split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            value = getattr(value, part)
        return value
    raise ModuleNotFoundError(name)


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def text(request):
    return request.param.read_text()


def test_modules_and_functions(text):
    directives = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    for name in [*found(r"\b((?:openhcs_omero|omero_embedded)(?:[.:]\w+)+)\b(?!/)", text), *directives]:
        if not name.endswith((".py", ".yml")):
            imported(name)


def namespaces():
    """The namespaces of annotations, which look like paths."""
    code = "".join(file.read_text() for file in (ROOT / "openhcs_omero").rglob("*.py"))
    return set(re.findall(r'"(openhcs_omero/\w+)"', code))


def test_files(text):
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in found(r"(?<![\w./~-])((?:\w[\w.-]*/)+[\w.-]*)", text):
        if name.split("/")[0] in FOLDERS and name not in namespaces():
            assert any(file == name or file.startswith(name.rstrip("/") + "/") for file in kept), name


def test_make_targets(text):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(found(r"^(?!apt-get).*?(?<![\w-])make ([a-z][\w-]*)", text)) <= targets


def test_commands_and_options(text):
    commands = typer.main.get_command(app).commands
    for line in code_of(text):
        for name, rest in re.findall(r"(?:^|(?<!-p)\s|/)openhcs-omero ([a-z][\w-]*)([^#|&]*)", line):
            options = {option for parameter in commands[name].params for option in parameter.opts}
            assert set(re.findall(r"--[\w-]+", rest)) <= options, line


def test_benchmarks(text):
    for name in found(r"python -m benchmarks (\w+)", text):
        assert (ROOT / "benchmarks" / f"{name}.py").exists()
