"""Tables that fit the window: where it is narrow they leave out what matters less, and cut no name in pieces.

Knows nothing of what is in a table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table

NARROW = 120  # columns: in fewer, some are left out


@dataclass(frozen=True)
class ByWidth:
    """Something that is drawn for as many columns as there are."""

    draw: Callable[[int], RenderableType]

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """What is drawn."""
        yield self.draw(options.max_width)


def fitting(table: Table, name: str, dispensable: Collection[str]) -> ByWidth:
    """The table, without the dispensable columns in a narrow window.

    What is in the column `name` stays in one piece, since it is typed and copied; and so does a size.
    """
    for column in table.columns:
        column.no_wrap = column.header in {name, "size"}

    def draw(width: int) -> Table:
        if width < NARROW:
            table.columns = [column for column in table.columns if column.header not in dispensable]
        return table

    return ByWidth(draw)
