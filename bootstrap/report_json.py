"""Deployments as JSON documents. A damaged one is refused whole, so that whoever shows a report can rely on it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import partial
from typing import Any, TypeVar

from bootstrap.report import Deployment, File, Flow, ImageLayer, Section, Timing, Upstream

_Row = TypeVar("_Row", Deployment, Section, Timing, File, Flow, Upstream, ImageLayer)


def write(deployment: Deployment) -> str:
    """The document."""
    return json.dumps(asdict(deployment), indent=2)


def read(document: str) -> Deployment:
    """The deployment in a document that this version wrote, or an older or a newer one.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return _row(Deployment, json.loads(document))
    except (TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"no deployment: {error}") from error


def _row(row: type[_Row], data: Mapping[str, Any]) -> _Row:
    """A row of any version: what that did not know has its default, what we do not know goes."""
    known = {one.name: _READERS[str(one.type)] for one in fields(row)}
    return row(**{name: known[name](value) for name, value in data.items() if name in known})


def _flow(data: Mapping[str, Any]) -> Flow:
    flow = _row(Flow, data)
    if flow.step <= 0:
        raise ValueError("what came in no time has no speed")
    return flow


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _or_none(reader: Callable[[Any], Any], value: object) -> Any:
    return None if value is None else reader(value)


def _all(reader: Callable[[Any], Any], values: list[Any]) -> tuple[Any, ...]:
    return tuple(map(reader, values))


def _each(reader: Callable[[Any], Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: reader(value) for name, value in values.items()}


# By how the rows' fields are annotated.
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "str": _text,
    "str | None": partial(_or_none, _text),
    "float": _number,
    "float | None": partial(_or_none, _number),
    "int": _count,
    "int | None": partial(_or_none, _count),
    "Mapping[str, str]": partial(_each, _text),
    "Mapping[str, int]": partial(_each, _count),
    "tuple[str, ...]": partial(_all, _text),
    "tuple[int, ...]": partial(_all, _count),
    "tuple[Section, ...]": partial(_all, partial(_row, Section)),
    "tuple[Timing, ...]": partial(_all, partial(_row, Timing)),
    "tuple[File, ...]": partial(_all, partial(_row, File)),
    "tuple[Flow, ...]": partial(_all, _flow),
    "tuple[Upstream, ...]": partial(_all, partial(_row, Upstream)),
    "tuple[ImageLayer, ...]": partial(_all, partial(_row, ImageLayer)),
}
