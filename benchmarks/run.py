"""The benchmark command: runs benchmarks, prints tables, and writes JSON."""

import argparse
import contextlib
import datetime
import importlib
import json
import os
import pkgutil
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks.common import BenchServer, Ratio, embedded_server

NOT_ONE = {"common", "network", "plates", "run", "__main__"}


def main() -> None:
    names = sorted(found.name for found in pkgutil.iter_modules(benchmarks.__path__) if found.name not in NOT_ONE)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("name", nargs="*", help=f"which to run, all by default: {', '.join(names)}")
    parser.add_argument("--host", help="an OMERO server; without it, an embedded one in a temporary folder")
    parser.add_argument("--port", type=int, default=4064)
    parser.add_argument("--user", default="root", help="its password comes from OMERO_PASSWORD")
    parser.add_argument("--data-dir", type=Path, help="the data folder of --host, where this machine sees it")
    parser.add_argument("--quick", action="store_true", help="small plates and few rounds: to see that it runs")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        default=Path("benchmarks.json"),
        help="where to write the figures, %(default)s by default",
    )
    args = parser.parse_args()
    if unknown := set(args.name) - set(names):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}: known are {', '.join(names)}")
    found: list[tuple[str, Ratio]] = []
    with _server(parser, args) as server:
        for ratios in _measured(args.name or names, server, args.quick):
            found += ratios
            _write(args.json, found, args)


def _server(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> contextlib.AbstractContextManager[BenchServer]:
    if not args.host:
        return embedded_server()
    if not os.environ.get("OMERO_PASSWORD"):
        parser.error(f"set OMERO_PASSWORD to the password of {args.user} at {args.host}")
    return contextlib.nullcontext(
        BenchServer(args.host, args.port, args.user, os.environ["OMERO_PASSWORD"], args.data_dir)
    )


def _measured(names: list[str], server: BenchServer, quick: bool) -> Iterator[list[tuple[str, Ratio]]]:
    """Run the benchmarks; yield the ratios of each one after printing its table."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    for name in names:
        module = importlib.import_module(f"benchmarks.{name}")
        ratios = list(module.measure(server, quick))
        console.print(_table(name, ratios))
        yield [(name, ratio) for ratio in ratios]


def _table(title: str, ratios: list[Ratio]) -> Table:
    table = Table("", "ours", "peer", "unit", "ratio", "target", "", title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for ratio in ratios:
        sign = "≥" if ratio.better == "more" else "≤"
        table.add_row(
            ratio.name,
            _short(ratio.ours),
            _short(ratio.peer),
            ratio.unit,
            _short(ratio.value),
            "" if ratio.target is None else f"{sign} {ratio.target:g}",
            {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[ratio.met],
        )
    return table


def _short(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def _write(file: Path, found: list[tuple[str, Ratio]], args: argparse.Namespace) -> None:
    rows = [{"benchmark": name, **asdict(ratio), "ratio": ratio.value, "met": ratio.met} for name, ratio in found]
    file.write_text(
        json.dumps(
            {
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "machine": {
                    "cores": os.cpu_count(),
                    "system": platform.platform(),
                    "python": platform.python_version(),
                },
                "server": args.host or "embedded",
                "quick": args.quick,
                "ratios": rows,
            },
            indent=1,
        )
        + "\n"
    )
