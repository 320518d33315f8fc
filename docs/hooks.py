"""mkdocs hooks: pages that are files elsewhere in the repository, with their links turned into links of the site."""

import posixpath
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from openhcs_omero.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "config/README.md": "reference/configuration.md",
}
LINK = re.compile(r"(\]\()([^)#\s]+)([^)]*\))")  # in Markdown; http:// and the like are left as they are


def on_files(files: Files, config: Any) -> Files:
    for source, page in PAGES.items():
        text = LINK.sub(lambda found: _on_site(found, source, page, config), (ROOT / source).read_text())
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn the links of a page to files outside docs/ into links to the repository or to the page made of them."""
    markdown = markdown.replace("<!-- commands -->", _commands()) if "<!-- commands -->" in markdown else markdown
    source = f"docs/{page.file.src_uri}"
    if page.file.src_uri in PAGES.values():
        return markdown
    return LINK.sub(lambda found: _on_site(found, source, page.file.src_uri, config), markdown)


def _commands() -> str:
    """The help texts of the command line, as typer writes them, one heading level down."""
    context = typer.Context(typer.main.get_command(app), info_name="openhcs-omero")
    text = get_docs_for_click(obj=context.command, ctx=context, name="openhcs-omero")
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)


def _on_site(found: re.Match[str], source: str, page: str, config: Any) -> str:
    start, target, end = found.groups()
    if "://" in target or target.startswith("mailto:"):
        return found[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if not (ROOT / path).exists():
        return found[0]  # mkdocs warns about it
    there = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
    if there is None:
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{start}{config.repo_url}/{kind}/main/{path}{end}"
    return f"{start}{posixpath.relpath(there, posixpath.dirname(page) or '.')}{end}"
