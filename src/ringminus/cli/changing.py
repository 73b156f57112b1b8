"""`--addon`, `--break`, `--symbols`: who changes a guest's events, in a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

import ringminus.cli.protocols  # noqa: F401
from ringminus.cli.prompt import PromptTerminal
from ringminus.cli.terminal import STDIN, RawTerminal
from ringminus.lens.addons.host import AddonHost
from ringminus.lens.addons.loading import load_addons
from ringminus.lens.breakpoints.prompt import Prompt
from ringminus.lens.breakpoints.symbols import Symbols, load_symbols
from ringminus.lens.decode import Decoder
from ringminus.machine.reach import MachineReach
from ringminus.machine.worker import Worker
from ringminus.tap import Tap

NO_PROMPT = (
    "an addon asks for the prompt (ctx.break_here), and standard input is the guest's: the guest goes on; "
    "run it in a terminal, or say --break too, such as --break violation, and the prompt has standard input"
)


class Changing:
    """Addons and breakpoints over the restarts of a guest. Raises `ConfigError` and `HostError`."""

    def __init__(self, tap: Tap, addons: Sequence[str], breaks: Sequence[str], symbols: Path | None) -> None:
        self.terminal: RawTerminal | None = None
        """The guest's, while it has one."""
        self.has_prompt = bool(breaks)
        """Whether a person or a pipe waits for the prompt."""
        self._refused = False
        decoder = Decoder()
        terminal = PromptTerminal(lambda: self.terminal)
        names = load_symbols(symbols) if symbols is not None else Symbols()
        loaded = load_addons(addons)
        self._prompt = Prompt(tap, terminal, names, decoder)
        # addons first: breakpoints are met with what they have made of an event
        self._host = AddonHost(tap, loaded, self._say, self._break_here, decoder)
        for text in breaks:
            self._prompt.points.add(text)

    @property
    def takes_input(self) -> bool:
        """Whether standard input is for the prompt, and not for the guest."""
        return self.has_prompt and not os.isatty(STDIN)

    def attach(self, worker: Worker, name: str) -> None:
        """A guest is about to run."""
        reach = MachineReach(worker, name)
        self._prompt.reach = reach
        self._host.attach(reach)

    def detach(self) -> None:
        """It has ended."""
        self._host.detach()
        self._prompt.reach = None

    def stop(self) -> bool:
        """A person wants the prompt; the guest is not inside its processor now. False if there is none."""
        return self._prompt.stop()

    def _break_here(self) -> None:
        """An addon wants the prompt."""
        if not self.has_prompt and not os.isatty(STDIN):
            if not self._refused:
                self._refused = True
                self._say(NO_PROMPT)
            return
        event = self._host.current
        self._prompt.stop(event if event is not None and event.verdict is not None else None)

    def _say(self, text: str) -> None:
        end = "\r\n" if self.terminal is not None else "\n"
        click.echo(f"ringminus: {text}{end}", err=True, nl=False)
