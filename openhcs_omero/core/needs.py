"""What steps need of a machine beyond what every well needs: the key `resources` of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Needs:
    """What a step, or all steps of a well, need.

    Parameters
    ----------
    mem_mb
        Memory, in MB, in addition to that for the images.
    runtime
        Minutes for a well, in addition to those for reading and writing.
    gpu
        Number of GPUs.
    threads
        Number of CPUs.
    """

    mem_mb: int = 0
    runtime: int = 0
    gpu: int = 0
    threads: int = 1

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Needs:
        """Read the needs of an entry of `steps`."""
        return cls(**{name: int(value) for name, value in entry.get("resources", {}).items()})  # 8000.0 is whole, too

    @classmethod
    def together(cls, steps: Iterable[Needs]) -> Needs:
        """The needs of steps that run one after the other."""
        each = [cls(), *steps]
        return cls(
            max(needs.mem_mb for needs in each),
            sum(needs.runtime for needs in each),
            max(needs.gpu for needs in each),
            max(needs.threads for needs in each),
        )


NO_NEEDS = Needs()
