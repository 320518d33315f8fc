"""mkdocs hooks: pages that are files elsewhere in the repository, with their links turned into links of the site."""

import posixpath
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from openhcs_omero.cli import app
from openhcs_omero.core.steps.catalog import describe_steps
from openhcs_omero.core.steps.showing import markdown as steps_markdown

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "vulnerabilities.md",
    "config/README.md": "reference/configuration.md",
    "packages/omero-embedded/README.md": "reference/embedded.md",
}
LINK = re.compile(r"(\]\()([^)#\s]+)([^)]*\))")  # in Markdown; http:// and the like are left as they are


def on_files(files: Files, config: Any) -> Files:
    for source, page in PAGES.items():
        text = (ROOT / source).read_text().replace("<!-- missing -->", _missing() if "embedded" in source else "")
        files.append(File.generated(config, page, content=_with_links(text, source, page, config.extra["repository"])))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn the links of a page to files outside docs/ into links to the repository or to the page made of them."""
    path = page.file.src_uri
    if path in PAGES.values():
        return markdown
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", _commands())
    if "<!-- steps -->" in markdown:
        markdown = markdown.replace("<!-- steps -->", steps_markdown(describe_steps()))
    return _with_links(markdown, f"docs/{path}", path, config.extra["repository"])


def _missing() -> str:
    """What the embedded server has not, as it says it itself."""
    from omero_embedded.ice.missing import markdown

    return markdown()


def _commands() -> str:
    """The help texts of the command line, as typer writes them, one heading level down."""
    context = typer.Context(typer.main.get_command(app), info_name="openhcs-omero")
    for command in getattr(context.command, "commands", {}).values():
        command.short_help = command.help  # else the list cuts them short
    text = get_docs_for_click(obj=context.command, ctx=context, name="openhcs-omero")
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)


def _with_links(text: str, source: str, page: str, repository: str) -> str:
    """A file's text with its links as they are to be on the page of the site that shows it."""

    def replace(found: re.Match[str]) -> str:
        start, target, end = found.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if "://" in target or not (ROOT / path).exists():  # mkdocs warns about a missing one
            return found[0]
        there = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if there is None:
            return f"{start}{repository}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}{end}"
        return f"{start}{posixpath.relpath(there, posixpath.dirname(page) or '.')}{end}"

    return LINK.sub(replace, text)
