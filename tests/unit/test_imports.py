"""Imports go one way: workflow -> core, runtime -> microscopes -> io -> omero, and nothing needs `embedded`."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "openhcs_omero"

# what a house may import of the package besides itself; modules that stand alone are houses too
MAY_IMPORT = {
    "__init__": set(),
    "errors": set(),
    "serving": {"errors"},
    "pytest_plugin": {"serving"},
    "omero": {"errors"},
    "io": {"errors", "omero"},
    "processing": {"errors", "io"},
    "microscopes": {"errors", "omero", "io"},
    "runtime": {"errors", "omero", "io", "microscopes", "processing", "core", "serving"},
    "core": {"errors", "omero", "io", "microscopes", "processing"},
    "embedded": set(),
    "demo": {"errors", "omero", "io", "microscopes", "processing", "core", "runtime", "serving"},
    "cli": {"errors", "omero", "io", "microscopes", "processing", "core", "runtime", "embedded", "demo"},
}
SPEAKS_TO_OMERO = {"omero", "embedded", "pytest_plugin"}
OMERO_PY = {"omero", "Ice", "IcePy", "Glacier2", "omero_model"}


def house_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(source: str, package: str) -> set[str]:
    """Full names of all modules (or names in modules) that `source`, standing in `package`, imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def houses_imported(names: set[str]) -> set[str]:
    """Houses of the package among imported names; the package's own version is no house."""
    found = {name.split(".")[1] for name in names if name.startswith("openhcs_omero.")} - {"__version__"}
    return found | ({"__init__"} if "openhcs_omero" in names else set())


FILES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "workflow").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_houses(file):
    house = house_of(file)
    assert house in MAY_IMPORT, f"{house} is a new house: say in this test what it may import"
    names = imports_of(file.read_text(), ".".join(file.relative_to(ROOT).parent.parts))
    wrong = houses_imported(names) - MAY_IMPORT[house] - {house}
    assert not wrong, f"{house} imports {wrong}"
    if house not in SPEAKS_TO_OMERO:
        outside = {name for name in names if name.split(".")[0] in OMERO_PY}
        assert not outside, f"only openhcs_omero/omero speaks to OMERO, and {house} imports {outside}"


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_workflow(file):
    names = imports_of(file.read_text(), "workflow")
    assert not houses_imported(names) & {"embedded", "cli", "demo"}
    assert not {name for name in names if name.split(".")[0] in OMERO_PY}


def test_the_directions_have_no_way_back():
    """From omero/ and embedded/ no house can be reached but errors; only cli reaches embedded."""
    assert MAY_IMPORT["omero"] == {"errors"}
    assert not MAY_IMPORT["embedded"]
    assert [house for house, others in MAY_IMPORT.items() if "embedded" in others] == ["cli"]


def test_imports_are_seen():
    """The reader of imports knows every form that they have."""
    source = "import a.b\nfrom ..omero import x\nfrom .base import y\nfrom . import z\ndef f():\n    import c\n"
    expected = {"a.b", "openhcs_omero.omero.x", "openhcs_omero.io.base.y", "openhcs_omero.io.z", "c"}
    assert imports_of(source, "openhcs_omero.io") == expected
    assert houses_imported(expected) == {"omero", "io"}
    assert len(FILES) > 10
