"""A deployment in the Trace Event Format (JSON), which Perfetto and chrome://tracing open.

Each section is a process, laid end to end; each row of it a thread. What lies in one row never overlaps, as the format
wants it of complete events. Counters show what came from each mirror when.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from bootstrap.report import Deployment, File, Flow, Section, Timing
from bootstrap.reporting import rows, words
from bootstrap.reporting.words import Language

_Event = dict[str, Any]
_US = 1_000_000  # microseconds, the format's unit, in a second


@dataclass(frozen=True)
class _Slice:
    """Something that took its time; `more` is shown when it is clicked at."""

    name: str
    category: str
    started: float
    seconds: float
    more: _Event

    @property
    def span(self) -> tuple[int, int]:
        """From when to when, in whole microseconds of the section: what does not overlap there never does."""
        return round(self.started * _US), round((self.started + self.seconds) * _US)


def text(found: Deployment, lang: Language = "en") -> str:
    """The trace as a JSON document."""
    events: list[_Event] = []
    offset = 0
    for number, section in enumerate(found.sections, start=1):
        events += _section(section, number, offset, lang)
        offset += round(section.seconds * _US)
    other = {"deployment": found.id, "note": "the sections are laid end to end; `began` says when each was"}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "otherData": other}, ensure_ascii=False)


def _section(section: Section, pid: int, offset: int, lang: Language) -> Iterator[_Event]:
    yield _names("process_name", pid, 0, words.section(section.kind, lang))
    yield {"name": "process_sort_index", "ph": "M", "pid": pid, "tid": 0, "args": {"sort_index": pid}}
    whole = _Slice(
        words.section(section.kind, lang), "section", 0.0, section.seconds, {"began": section.began, **section.facts}
    )
    phases = [timing for row in rows.phases(section) for timing in row.goes]
    groups = {
        words.say("total", lang): [whole],
        words.say("phase", lang): [_phase(timing, lang) for timing in phases if not timing.is_part],
        words.say("part", lang): [_phase(timing, lang) for timing in phases if timing.is_part],
        words.say("file", lang): [_file(file) for file in section.files],
    }
    tids = count(1)
    for name, slices in groups.items():
        for lane in _lanes(slices):
            tid = next(tids)
            yield _names("thread_name", pid, tid, name)
            yield {"name": "thread_sort_index", "ph": "M", "pid": pid, "tid": tid, "args": {"sort_index": tid}}
            yield from (_complete(one, pid, tid, offset) for one in lane)
    yield from _counters(section.flows, pid, offset)


def _names(kind: str, pid: int, tid: int, name: str) -> _Event:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}


def _complete(one: _Slice, pid: int, tid: int, offset: int) -> _Event:
    start, end = one.span
    place = {"pid": pid, "tid": tid, "ts": offset + start, "dur": end - start}
    return {"name": one.name, "cat": one.category, "ph": "X", **place, "args": one.more}


def _phase(timing: Timing, lang: Language) -> _Slice:
    known = {"bytes": timing.bytes, "from": timing.source, "retries": timing.retries, "busy_seconds": timing.busy}
    more = {"phase": timing.phase, **{key: value for key, value in known.items() if value is not None}}
    return _Slice(
        words.phase(timing, lang), rows.category(timing), timing.started, timing.seconds, more | _given(timing.sources)
    )


def _file(file: File) -> _Slice:
    more = {"phase": file.phase, "bytes": file.bytes, "first_byte": file.first, "last_byte": file.last}
    more |= {"retries": file.retries} | _given(file.sources)
    return _Slice(file.name, "file", file.started, file.ended - file.started, more)


def _given(sources: Any) -> _Event:
    return {f"bytes from {source}": number for source, number in sources.items()}


def _lanes(slices: Sequence[_Slice]) -> list[list[_Slice]]:
    """The slices in as few rows as do, so that in none of them two overlap."""
    lanes: list[list[_Slice]] = []
    for one in sorted(slices, key=lambda it: it.started):
        lane = next((lane for lane in lanes if lane[-1].span[1] <= one.span[0]), None)
        if lane is None:
            lanes.append(lane := [])
        lane.append(one)
    return lanes


def _counters(flows: Sequence[Flow], pid: int, offset: int) -> Iterator[_Event]:
    """The speed of each mirror, slot by slot, and zero after the last."""
    slots: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    for flow in flows:
        for place, number in enumerate((*flow.bytes, 0)):
            moment = offset + round((flow.started + place * flow.step) * 1000) * 1000  # the same for all mirrors
            slots[flow.phase, moment][flow.source] = round(number / flow.step)
    for (phase, moment), rates in sorted(slots.items()):
        yield {"name": f"{phase}: bytes/s", "ph": "C", "pid": pid, "tid": 0, "ts": moment, "args": rates}
