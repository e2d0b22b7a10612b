"""What build-image is asked for, and what it says before it does anything."""

import pytest

from tests.conftest import Invoke


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--weights", "mounted", "--weights-on-top"), "--weights-on-top goes with baked weights"),
        (("--push", "Not A/Reference"), "Not A/Reference"),
        (("--weights", "frozen"), "baked"),
        (("--pull-rate", "0"), "--pull-rate"),
        (("--model", "nosuch"), "nosuch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_refused_before_anything_is_done(
    invoke: Invoke, arguments: tuple[str, ...], told: str
) -> None:
    result = invoke("build-image", "--dry-run", *arguments)
    assert result.exit_code != 0
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_the_plan_of_weights_alone_has_no_packages(invoke: Invoke) -> None:
    result = invoke("build-image", "--dry-run", "--torch", "cpu", "--weights", "volume", "--push", "some.registry/w:1")
    assert result.exit_code == 0, result.stderr
    assert "alone in their image" in result.output
    assert "some.registry/w:1" in result.output
    assert "wheels" not in result.stdout
