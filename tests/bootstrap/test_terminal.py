from __future__ import annotations

import pytest
from click.testing import CliRunner
from rich.table import Table

from bootstrap import cli
from bootstrap.commands.report import report
from bootstrap.console import Console
from bootstrap.errors import SetupError
from tests.mirrors.loopback import until

TITLE = "\x1b]0;not your title\x07"
RED = "\x1b[31m"
ONE_CHARACTER = "\x9b31m"  # the same with the single character that begins a sequence


@pytest.mark.parametrize("evil", [TITLE, RED, ONE_CHARACTER])
def test_what_a_terminal_would_obey_is_not_printed(capsys: pytest.CaptureFixture[str], evil: str) -> None:
    console = Console()
    table = Table(f"name{evil}")
    table.add_row(f"torch{evil}\ttwo\nlines")
    console.table(table)
    console.show(table)
    console.warn(f"mirror.example said{evil}: no")
    with console.working(f"fetch{evil}") as task:
        task.say(evil)
    shown = "".join(capsys.readouterr())
    assert "torch" in shown
    assert "mirror.example said" in shown
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)


def test_errors_are_harmless_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise SetupError(f"mirror.example said {TITLE}no", f"ask {RED}another")

    monkeypatch.setattr(report, "callback", fail)
    done = CliRunner().invoke(cli.main, ["report"], color=True)
    assert "mirror.example said" in done.stderr
    assert "\x1b]" not in done.stderr
    assert RED + "another" not in done.stderr


def test_work_that_goes_on_is_named_before_it_ends_where_nobody_draws_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().working("solve"):
        until(lambda: "solve: under way" in capsys.readouterr().err)
    assert "under way" not in capsys.readouterr().err
