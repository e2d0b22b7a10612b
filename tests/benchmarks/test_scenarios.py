"""The scenarios follow from their seeds, and each can be won."""

from __future__ import annotations

import pytest

from benchmarks.families import FAMILIES, MIRRORS
from benchmarks.scenarios import scenario


@pytest.mark.parametrize("seed", range(2 * len(FAMILIES)))
def test_a_scenario_follows_from_its_seed_and_has_mirrors_that_complete_it(seed: int) -> None:
    drawn = scenario(seed)
    assert scenario(seed) == drawn
    assert len(drawn.shapes) == MIRRORS
    assert drawn.by_promise
    assert not drawn.out & {*drawn.by_promise, drawn.fixed}
    assert drawn.files[0].size == max(file.size for file in drawn.files)
    assert all(drawn.shapes[shape.target].fault == "" for shape in drawn.shapes if shape.fault in ("redirect", "links"))


def test_the_families_take_turns() -> None:
    assert len({scenario(seed).family for seed in range(len(FAMILIES))}) == len(FAMILIES)
    assert scenario(len(FAMILIES)).family == scenario(0).family
    assert scenario(len(FAMILIES)) != scenario(0)
