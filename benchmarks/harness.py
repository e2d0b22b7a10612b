"""What all benchmarks share: rows, the machine's name, alternated timing, the table and the JSON document.

A benchmark is `python benchmarks/NAME.py [--quick] [--json FILE]`. Its JSON is
`{"machine": {…}, "rows": [{"name", "value", "unit", "bar", "holds", "peer"}]}`; `holds` is
null where this machine cannot tell.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One number: what was measured, what it has to be, whether it is, and what it was compared with."""

    name: str
    value: float | None
    unit: str
    bar: str
    holds: bool | None
    peer: str


def alternate(runs: int, *actions: Callable[[], object]) -> tuple[float, ...]:
    """Median seconds of each action, run in turn A B A B … after one uncounted round."""
    seconds: list[list[float]] = [[] for _ in actions]
    for counted in range(-1, runs):
        for kept, action in zip(seconds, actions, strict=True):
            began = time.perf_counter()
            action()
            if counted >= 0:
                kept.append(time.perf_counter() - began)
    return tuple(statistics.median(kept) for kept in seconds)


def main(measure: Callable[[bool], Sequence[Row]], description: str) -> None:
    """Parse the arguments, measure, print the table, write the JSON; exit code 1 if a number does not hold."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    arguments = parser.parse_args()
    rows = measure(arguments.quick)
    width = max(len(row.name) for row in rows)
    for row in rows:
        value = "-" if row.value is None else f"{row.value:.3g} {row.unit}"
        verdict = {True: "holds", False: "DOES NOT HOLD", None: "cannot tell here"}[row.holds]
        print(f"{row.name:{width}}  {value:>12}  {row.bar:24}  {verdict:16}  against {row.peer}")
    if arguments.json:
        document = {"machine": machine(), "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(row.holds is False for row in rows))


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    return {
        "system": platform.platform(),
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
