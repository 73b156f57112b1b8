"""The command explains itself, completes in the shell, and imports only what it uses."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ringminus import __version__
from ringminus.cli.main import COMMANDS, cli
from ringminus.cli.report import STATUS
from ringminus.cli.run import command_line
from ringminus.machine.outcome import End
from ringminus.tap import EVENTS
from support.command import command


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(cli, [*arguments, "--help"])
    assert result.exit_code == 0
    return result.output


def test_version() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output == f"ringminus, version {__version__}\n"


def test_help_names_the_commands_and_how_to_complete() -> None:
    text = help_of()
    assert all(re.search(rf"^  {name} ", text, re.M) for name in COMMANDS)
    assert "_RINGMINUS_COMPLETE=bash_source" in text


def test_help_of_run_tells_every_exit_status() -> None:
    text = help_of("run")
    documented = set(map(int, re.findall(r"^ +(\d+) +[a-z]", text, re.M)))
    assert set(STATUS) == set(End)
    assert documented == {*STATUS.values(), 1, 2}


def test_help_of_run_tells_the_default_command_line_and_every_event() -> None:
    text = help_of("run")
    assert "`console=ttyS0` is put before the command line" in " ".join(text.split())
    assert all(event.POINT in text for event in EVENTS)


def complete(*words: str) -> list[str]:
    """What the shell offers for the last word."""
    environment = {
        **os.environ,
        "_RINGMINUS_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["ringminus", *words]),
        "COMP_CWORD": str(len(words)),
    }
    ended = subprocess.run(command(), env=environment, capture_output=True, text=True, check=True)
    return ended.stdout.split()


def test_completion() -> None:
    assert complete("ru") == ["plain,run"]
    assert complete("run", "--mem") == ["plain,--memory"]
    assert complete("run", "--console", "st") == ["plain,stdio"]
    assert complete("run", "--log", "exits,hy") == ["plain,exits,hypercalls"]
    assert complete("run", "--break", "scsi.op==write_s") == [
        "plain,scsi.op==write_same_10",
        "plain,scsi.op==write_same_16",
    ]
    assert [line.partition(",")[0] for line in complete("run", "--kernel", "vm")] == ["file"]


@pytest.mark.parametrize("module", ["ringminus.cli.main", "ringminus.cli.run", "ringminus.cli.session"])
def test_a_boot_does_not_wait_for_what_it_does_not_use(module: str) -> None:
    unused = ["rich", "ringminus.guest", "ringminus.lens", "json"]
    if not module.endswith("session"):
        unused += ["unicorn", "asyncio.base_events", "ringminus.hypervisor"]
    code = f"import sys, {module}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = ended.stdout.split()
    assert module in imported
    assert [name for name in imported if name in unused] == []


class TestCommandLine:
    """What the guest's kernel is told."""

    def test_the_console_is_put_first(self) -> None:
        assert command_line("quiet", "stdio") == "console=ttyS0 quiet"
        assert command_line("", "stdio") == "console=ttyS0"

    def test_a_console_of_ones_own_is_left_alone(self) -> None:
        assert command_line("quiet console=hvc0", "stdio") == "quiet console=hvc0"
        assert command_line("netconsole=x", "stdio") == "console=ttyS0 netconsole=x"

    def test_without_a_console_nothing_is_added(self) -> None:
        assert command_line("quiet", "none") == "quiet"

    def test_quoted_words_keep_their_blanks(self) -> None:
        assert command_line('x="a  b"', "none") == 'x="a  b"'

    def test_the_size_of_the_terminal_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ringminus.cli.run.terminal_size", lambda: (50, 132))
        assert command_line("quiet", "tty") == "console=ttyS0 ringminus.size=50x132 quiet"
        assert command_line("quiet", "stdio") == "console=ttyS0 quiet"

    def test_a_terminal_that_does_not_know_its_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ringminus.cli.run.terminal_size", lambda: None)
        assert command_line("quiet", "tty") == "console=ttyS0 quiet"
