"""How soon a plan of files is here from twelve shaped mirrors: our choice and fetch, against every way to pick one.

    python benchmarks/mirrors.py [--quick] [--json FILE] [--scenarios N] [--jobs J] [--seed S]
    python benchmarks/mirrors.py --only SEED        one scenario, with what was measured and who gave what when

Seeds S, S + 1, … go through the families of `benchmarks.families` in turn. Selection counts as part of the time.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: this very file must not stand for the package `mirrors`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from benchmarks import harness
from benchmarks.contest import Outcome, play
from benchmarks.families import FAMILIES
from benchmarks.harness import Row
from benchmarks.scenarios import scenario

_QUICK = 12
_FULL = 11 * len(FAMILIES)  # 209
_JOBS = 8  # scenarios at once: together they keep about one core busy
_SHOWN = 12  # of the worst scenarios


def main() -> None:
    """Take our own arguments, and leave the common ones to the harness."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--scenarios", type=int)
    parser.add_argument("--jobs", type=int, default=_JOBS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="SEED")
    ours, others = parser.parse_known_args()
    sys.argv[1:] = others
    if ours.only is not None:
        _explain(ours.only)
        return

    def measure(quick: bool) -> Sequence[Row]:
        count = ours.scenarios or (_QUICK if quick else _FULL)
        # A quick run takes every other family or so, the same ones each time.
        seeds = [ours.seed + place * len(FAMILIES) // count if quick else ours.seed + place for place in range(count)]
        return rows(*_play_all(seeds, ours.jobs))

    harness.main(measure, __doc__ or "")


def _play_all(seeds: Sequence[int], jobs: int) -> tuple[list[Outcome], dict[int, str]]:
    """What came of each scenario, and the seeds where our code gave up, with the reason."""
    outcomes: list[Outcome] = []
    failures: dict[int, str] = {}
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        running: dict[Future[Outcome], int] = {pool.submit(play, seed): seed for seed in seeds}
        for done in as_completed(running):
            seed = running[done]
            try:
                outcome = done.result()
            except Exception as error:  # noqa: BLE001  # any end but a good one is a failure, and the rest goes on
                failures[seed] = f"{type(error).__name__}: {error}"
                print(f"{seed:4} {failures[seed]}", flush=True)
                continue
            outcomes.append(outcome)
            print(_line(outcome), flush=True)
            if outcome.ours.failure:
                failures[seed] = outcome.ours.failure
    return sorted(outcomes, key=lambda outcome: outcome.seed), failures


def rows(outcomes: Sequence[Outcome], failures: dict[int, str]) -> list[Row]:
    """Every number that the selection and the completion are judged by."""
    _print_families(outcomes)
    _print_worst(outcomes, failures)
    return [
        *_shaping(outcomes),
        *_selection(outcomes),
        *_completion(outcomes, failures),
        *_against_peers(outcomes),
    ]


def _shaping(outcomes: Sequence[Outcome]) -> list[Row]:
    ratios = [outcome.calibration for outcome in outcomes if outcome.calibration is not None]
    lag = _quantile([outcome.lag for outcome in outcomes], 0.95)
    median = statistics.median(ratios) if ratios else math.nan
    return [
        Row(
            "shaping: rate of a plain download, median",
            median,
            "x asked",
            "0.95 to 1.05",
            0.95 <= median <= 1.05,
            f"what the mirror was told; worst {min(ratios, default=math.nan):.3f}, p95 of the servers' lag {lag:.3f} s",
        )
    ]


def _selection(outcomes: Sequence[Outcome]) -> list[Row]:
    ours = [outcome.ours for outcome in outcomes]
    hanging = [outcome.ours.selection for outcome in outcomes if "three hang" in outcome.family]
    everywhere = _quantile([one.selection for one in ours], 0.95)
    with_hanging = _quantile(hanging, 0.95)
    most = max(one.most_bytes for one in ours) / 2**20
    asked = max(outcomes, key=lambda outcome: outcome.ours.requests)
    requests = asked.ours.requests
    reused = 100 * sum(one.kept for one in ours) / max(1, sum(one.probed for one in ours))
    wrong = sum(len(one.wrong) for one in ours)
    errors = statistics.median(abs(one.predicted / one.fetching - 1) for one in ours) * 100
    return [
        Row("selection, p95 over all scenarios", everywhere, "s", "at most 5", everywhere <= 5, "12 mirrors"),
        Row("selection, p95 where three hang", with_hanging, "s", "at most 5", with_hanging <= 5, "12 mirrors, 3 hang"),
        Row("most bytes of one mirror in a selection", most, "MiB", "at most 16", most <= 16, "all scenarios"),
        Row(
            "most requests to one mirror",
            requests,
            "requests",
            "at most 6",
            requests <= 6,
            f"all scenarios (seed {asked.seed})",
        ),
        Row("probe bytes reused", reused, "%", "at least 90", reused >= 90, "what the mirrors sent"),
        Row("mirrors chosen that had to be out", wrong, "", "0", wrong == 0, "the scenarios' truth"),
        Row("predicted against actual fetch, median error", errors, "%", "at most 20", errors <= 20, "the clock"),
    ]


def _completion(outcomes: Sequence[Outcome], failures: dict[int, str]) -> list[Row]:
    ratios = [_ratio(outcome) for outcome in outcomes]
    capped = [_ratio(outcome) for outcome in outcomes if outcome.capped]
    share, median = _share(ratios, 1.10), statistics.median(ratios)
    capped_share, capped_median = _share(capped, 0.6), statistics.median(capped or [math.nan])
    oracle = "the best single mirror, known in advance"
    many = f"{oracle}; {len(capped)} scenarios with three or more capped"
    return [
        Row("plans that failed or are wrong", len(failures), "", "0", not failures, f"{len(ratios)} scenarios"),
        Row("completion at most 1.10 x the oracle's", share, "%", "at least 95", share >= 95, oracle),
        Row("completion / the oracle's, median", median, "x", "at most 1.10", median <= 1.10, oracle),
        Row("completion at most 0.6 x, capped", capped_share, "%", "at least 95", capped_share >= 95, many),
        Row("completion / the oracle's, capped, median", capped_median, "x", "at most 0.6", capped_median <= 0.6, many),
    ]


def _against_peers(outcomes: Sequence[Outcome]) -> list[Row]:
    found = []
    for peer in dict.fromkeys(name for outcome in outcomes for name in outcome.peers):
        held = [(outcome.ours.seconds, *outcome.peers[peer]) for outcome in outcomes if peer in outcome.peers]
        ratio = statistics.median(seconds / theirs for seconds, theirs, _ in held)
        unfinished = sum(not done for *_, done in held)
        told = f"{peer}; in {unfinished} of {len(held)} it took longer than was waited for"
        found.append(Row(f"completion / {peer}", ratio, "x", "below 1", ratio < 1, told))
    return found


def _ratio(outcome: Outcome) -> float:
    return math.inf if outcome.ours.failure else outcome.ours.seconds / outcome.oracle


def _share(values: Sequence[float], bar: float) -> float:
    return 100 * sum(value <= bar for value in values) / len(values) if values else math.nan


def _quantile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def _print_families(outcomes: Sequence[Outcome]) -> None:
    print(f"\n{'family':24} {'ours / oracle: median':>22} {'worst':>6} {'selection':>10} {'predicted / actual':>19}")
    for family in dict.fromkeys(outcome.family for outcome in outcomes):
        those = [outcome for outcome in outcomes if outcome.family == family]

        def median(of: Callable[[Outcome], float], those: Sequence[Outcome] = those) -> float:
            return statistics.median(of(outcome) for outcome in those)

        print(
            f"{family:24} {median(_ratio):22.2f} {max(map(_ratio, those)):6.2f}"
            f" {median(lambda it: it.ours.selection):8.2f} s"
            f" {median(lambda it: it.ours.predicted / it.ours.fetching):19.2f}"
        )


def _print_worst(outcomes: Sequence[Outcome], failures: dict[int, str]) -> None:
    worst = sorted((outcome for outcome in outcomes if _ratio(outcome) > 1.10), key=_ratio, reverse=True)
    capped = [outcome for outcome in outcomes if outcome.capped and 0.6 < _ratio(outcome) <= 1.10]
    print("\nover the bar (run one alone with --only SEED):" if worst or capped else "")
    for outcome in (*worst[:_SHOWN], *capped[:_SHOWN]):
        print(_line(outcome))
    for seed, reason in sorted(failures.items()):
        print(f"{seed:4} {scenario(seed).family:24} FAILED {reason}")
    print()


def _line(outcome: Outcome) -> str:
    ours = outcome.ours
    return (
        f"{outcome.seed:4} {outcome.family:24} {_ratio(outcome):5.2f} x: selection {ours.selection:5.2f} s,"
        f" fetch {ours.fetching:6.2f} s (predicted {ours.predicted:6.2f}), oracle {outcome.oracle:6.2f} s"
        f"{'  ' + ours.failure if ours.failure else ''}"
    )


def _explain(seed: int) -> None:
    """Print everything about one scenario."""
    drawn = scenario(seed)
    print(
        f"{drawn.family}: {drawn.total / 1e6:.1f} MB, {len(drawn.files)} files: {[file.size for file in drawn.files]}"
    )
    outcome = play(seed, traced=True)
    for number, shape in enumerate(drawn.shapes):
        single = outcome.singles.get(number)
        alone = "-" if single is None else f"{single.seconds:.2f} s" if single.seconds else f"> {single.waited:.2f} s"
        place = outcome.ours.sources.index(number) + 1 if number in outcome.ours.sources else "-"
        print(
            f"{number:2} {shape}\n   {outcome.ours.told[number]}\n"
            f"   alone {alone}, chosen as {place}, gave {outcome.ours.per_mirror[number] / 1e6:.2f} MB"
        )
    print(_line(outcome))
    for name, (seconds, done) in outcome.peers.items():
        print(f"  {name}: {'' if done else 'more than '}{seconds:.2f} s")
    if outcome.calibration is not None:
        print(f"  shaping {outcome.calibration:.3f} x asked, the servers were late by {outcome.lag:.3f} s at worst")


if __name__ == "__main__":
    main()
