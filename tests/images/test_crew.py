import threading

import pytest

from images.calls import pause
from images.crew import THREADS, Tell, in_parallel


def _nothing(_: int) -> None:
    pass


def _no_thread_is_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name == "i2v-registry"]


def test_results_keep_their_order_and_all_is_told_here() -> None:
    here, told = threading.get_ident(), []

    def work(number: int, tell: Tell) -> int:
        assert threading.get_ident() != here
        tell(number)
        return number * 10

    def listen(number: int) -> None:
        assert threading.get_ident() == here
        told.append(number)

    results = in_parallel([lambda tell, number=number: work(number, tell) for number in range(20)], listen)  # type: ignore[misc]
    assert results == [number * 10 for number in range(20)]
    assert sorted(told) == list(range(20))
    assert _no_thread_is_left()


def test_nothing_to_do_is_done() -> None:
    assert in_parallel([], _nothing) == []


def test_so_many_work_at_once() -> None:
    together = threading.Barrier(THREADS)
    in_parallel([lambda _: together.wait(30)] * THREADS, _nothing)


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_of_one_ends_those_that_wait(failure: type[BaseException]) -> None:
    begun: list[int] = []

    def wait(_: Tell) -> None:
        begun.append(1)
        pause(600)

    def fail(_: Tell) -> None:
        raise failure("planted")

    with pytest.raises(failure, match="planted"):
        in_parallel([wait, wait, fail, wait, wait, wait], _nothing)
    assert len(begun) < 5
    assert _no_thread_is_left()


def test_a_listener_that_fails_ends_all() -> None:
    def work(tell: Tell) -> None:
        tell(1)
        pause(600)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_parallel([work, work], interrupt)
    assert _no_thread_is_left()
