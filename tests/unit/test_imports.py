"""Imports go one way: workflow -> core, runtime -> analysis, microscopes -> io -> omero -> plates, without cycles."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "openhcs_omero"

# which parts of the package each part ("house") may import besides itself; single modules are houses too
MAY_IMPORT = {
    "__init__": {"version", "errors", "omero", "io", "microscopes", "core", "runtime"},  # lazily
    "version": set(),
    "errors": set(),
    "schema": {"errors"},
    "spreadsheets": set(),
    "password": set(),
    "plates": {"errors"},
    "omero": {"errors", "spreadsheets", "password", "plates"},
    "io": {"errors", "spreadsheets", "plates", "omero"},
    "processing": {"errors", "plates", "io"},
    "microscopes": {"errors", "plates", "omero", "io"},
    "analysis": {"errors", "schema", "spreadsheets", "plates", "io"},
    "core": {
        "version",
        "errors",
        "schema",
        "spreadsheets",
        "password",
        "plates",
        "omero",
        "io",
        "microscopes",
        "processing",
        "analysis",
    },
    "runtime": {
        "version",
        "errors",
        "spreadsheets",
        "password",
        "plates",
        "omero",
        "io",
        "microscopes",
        "processing",
        "core",
    },
    "demo": {"errors", "plates", "omero", "io", "microscopes", "processing", "core", "runtime"},
    "cli": {
        "version",
        "errors",
        "spreadsheets",
        "password",
        "plates",
        "omero",
        "io",
        "microscopes",
        "processing",
        "analysis",
        "core",
        "runtime",
        "demo",
    },
}
SPEAKS_TO_OMERO = {"omero"}
OMERO_PY = {"omero", "Ice", "IcePy", "Glacier2", "omero_model"}


def house_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(source: str, package: str) -> set[str]:
    """Full names of all modules (or names in modules) that `source`, a module of `package`, imports anywhere."""
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
    """The houses among the imported names; the package's own version does not count."""
    found = {name.split(".")[1] for name in names if name.startswith("openhcs_omero.")} - {"__version__"}
    return found | ({"__init__"} if "openhcs_omero" in names else set())


FILES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "workflow").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_import_rules(file):
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
    assert not houses_imported(names) & {"cli", "demo"}
    assert not {name for name in names if name.split(".")[0] in OMERO_PY}


def test_the_plate_model_imports_nothing_above_it():
    """The plate model is below everything else, and none of it uses OMERO."""
    assert MAY_IMPORT["plates"] == {"errors"}


def test_no_import_cycles():
    """No module imports itself, directly or indirectly, at any place."""
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in FILES}
    graph = {
        name: {
            found if found in modules else found.rpartition(".")[0]
            for found in imports_of(file.read_text(), ".".join(file.relative_to(ROOT).parent.parts))
        }
        & set(modules)
        for name, file in modules.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules of a cycle


def test_the_embedded_server_is_only_started_as_a_process():
    """It is a separate product that only one module starts; the workflow runs without it."""
    found = {
        str(file.relative_to(ROOT)): {name for name in names if name.startswith("omero_embedded")}
        for file in [*FILES, *SCRIPTS]
        if (names := imports_of(file.read_text(), "openhcs_omero"))
    }
    found = {file: names for file, names in found.items() if names}
    manager, door = "openhcs_omero/runtime/omero_instance_manager.py", "openhcs_omero/runtime/embedded.py"
    assert found.keys() == {manager, door}
    assert set.union(*found.values()) == {
        f"omero_embedded.process.{name}" for name in ("CannotStart", "EmbeddedServer", "start")
    }


def test_the_map_of_core_names_every_module():
    named = set(re.findall(r"`(\w+)/?`", (PACKAGE / "core" / "__init__.py").read_text()))
    found = {path.stem for path in (PACKAGE / "core").iterdir() if not path.name.startswith("_")}
    assert named == found


def test_all_forms_of_imports_are_found():
    """`imports_of` recognizes every form of import."""
    source = "import a.b\nfrom ..omero import x\nfrom .base import y\nfrom . import z\ndef f():\n    import c\n"
    expected = {"a.b", "openhcs_omero.omero.x", "openhcs_omero.io.base.y", "openhcs_omero.io.z", "c"}
    assert imports_of(source, "openhcs_omero.io") == expected
    assert houses_imported(expected) == {"omero", "io"}
    assert len(FILES) > 10
