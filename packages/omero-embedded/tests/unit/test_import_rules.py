"""Imports go one way, without circles: ice -> requests, services -> people, rendering, hql -> files -> model."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
FILES = sorted(SRC.rglob("*.py"))

# What a part, or a module that stands alone, may import besides itself.
# Everybody may import `errors`, `limits` and `omeropy`.
MAY_IMPORT = {
    "errors": set(),
    "limits": set(),
    "recording": set(),
    "omeropy": {"recording"},
    "process": set(),
    "plates": set(),
    "testing": {"plates"},
    "pytest_plugin": {"process", "testing"},
    "model": set(),
    "files": {"model"},
    "hql": {"model"},
    "rendering": {"model", "files"},
    "search": set(),
    "people": {"model", "files"},
    "kernel": {"model", "files", "people"},
    "services": {"model", "files", "hql", "rendering", "search", "people", "kernel"},
    "requests": {"model", "files", "people", "kernel"},
    "ice": {"model", "files", "people", "kernel", "services", "requests"},
    "cli": {"ice"},
    "__init__": {"process", "plates", "testing"},  # the public names
}
OMERO_PY = {"omero", "Ice", "IcePy", "Glacier2"}


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(file): file for file in FILES}


def imports_of(source: str) -> set[str]:
    """Full names of all that is imported, at whatever place: modules, and names in modules."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules_imported(file: Path) -> set[str]:
    """The modules of this package that a file imports."""
    own = {name for name in imports_of(file.read_text()) if name.split(".")[0] == "omero_embedded"}
    return {name if name in MODULES else name.rpartition(".")[0] for name in own}


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("module", MODULES)
def test_import_rules(module):
    part = part_of(module)
    assert part in MAY_IMPORT, f"{part} is new: say in this test what it may import"
    wrong = (
        {part_of(name) for name in modules_imported(MODULES[module])}
        - MAY_IMPORT[part]
        - {part, "errors", "limits", "omeropy", "__init__"}
    )
    assert not wrong, f"{part} imports {wrong}"


@pytest.mark.parametrize("module", MODULES)
def test_the_workflow_is_not_imported(module):
    assert not {name for name in imports_of(MODULES[module].read_text()) if name.split(".")[0] == "openhcs_omero"}


def test_no_circles():
    """Imports inside functions and those for type checkers count too."""
    TopologicalSorter({name: modules_imported(file) - {"omero_embedded"} for name, file in MODULES.items()}).prepare()


def test_the_packages_are_ordered():
    TopologicalSorter(MAY_IMPORT).prepare()


@pytest.mark.parametrize("module", ["__init__", "cli", "errors", "plates", "process", "pytest_plugin", "testing"])
def test_starting_a_server_needs_no_omero_py(module):
    """These modules may name OMERO's types, and import it inside functions only."""
    file = SRC / "omero_embedded" / f"{module}.py"
    imported = imports_of(
        "\n".join(
            ast.unparse(node)
            for node in ast.parse(file.read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
        )
    )
    assert not {name for name in imported if name.split(".")[0] in OMERO_PY}


def test_imports_are_seen():
    source = "import a.b\nfrom omero_embedded.model import rows\ndef f():\n    import c\n    from d.e import g\n"
    assert imports_of(source) == {"a.b", "omero_embedded.model.rows", "c", "d.e.g"}
    assert len(MODULES) > 50
