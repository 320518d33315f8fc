"""A progress bar that draws the events of a run."""

from __future__ import annotations

from typing import Any


class ProgressBar:
    """Draws a run's events: `with ProgressBar() as bar: client.execute_pipeline(..., progress=bar)`."""

    def __init__(self, console: Any = None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[wells]}"),
            console=console,
        )
        self._task = self._bar.add_task("jobs", total=None, wells="")

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "jobs":
            self._bar.update(self._task, completed=event["done"], total=event["total"])
        elif event["event"] == "well":
            self._bar.update(self._task, wells=", ".join(f"{n} {state}" for state, n in event["counts"].items()))
            if event["state"] == "failed":
                self._bar.console.print(f"well {event['well']} failed: {event['reason']}", markup=False)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bar.stop()
