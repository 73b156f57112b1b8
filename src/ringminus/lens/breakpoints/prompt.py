"""The prompt at a breakpoint: reads commands and does them, until one lets the guest go on.

It runs on the machine's thread, so that the guest, its devices and their time stand still meanwhile.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Protocol

from ringminus.changes import ChangeError
from ringminus.errors import ConfigError
from ringminus.lens.breakpoints import details
from ringminus.lens.breakpoints.points import Breakpoint, Breakpoints
from ringminus.lens.breakpoints.symbols import Symbols
from ringminus.lens.decode import Decoder
from ringminus.lens.reach import Reach
from ringminus.tap import Event, Tap

MOST_COMPLETIONS = 100


class Usage(Exception):
    """The command was not understood; the message says how it is used."""


class Terminal(Protocol):
    """Where the person is."""

    colored: bool

    def open(self, complete: Callable[[str], Sequence[str]]) -> None:
        """The prompt begins; `complete` gives what a line may become whose end is to be completed."""

    def close(self) -> None:
        """It ends: the terminal is the guest's again."""

    def ask(self) -> str | None:
        """A line, without its end; None when there are no more. Raises KeyboardInterrupt for Ctrl-C, and
        `Closing` when the guest is to end."""

    def say(self, text: str) -> None:
        """Print a line."""


class Closing(Exception):
    """Somebody ends the guest while the prompt is open; the message says who."""


class Prompt:
    """One for a run. `terminal` is opened at each stop; `reach` is there while a guest runs."""

    def __init__(
        self, tap: Tap, terminal: Terminal, symbols: Symbols, decoder: Decoder | None = None
    ) -> None:
        self.points = Breakpoints(tap, decoder or Decoder(), self._met)
        self.terminal = terminal
        self.symbols = symbols
        self.reach: Reach | None = None
        self.event: Event | None = None
        """The one at which the guest stands; None where somebody just stopped it."""
        self.point: Breakpoint | None = None
        self.going = False
        """Whether the guest is to go on."""
        self._silent = False
        self._last: list[str] = []

    @property
    def decoder(self) -> Decoder:
        return self.points.decoder

    @property
    def machine(self) -> Reach:
        """Raises `Usage` where there is none."""
        if self.reach is None:
            raise Usage("no guest runs")
        return self.reach

    # ------------------------------------------------------------ stopping

    def _met(self, event: Event, point: Breakpoint) -> None:
        self.stop(event, point)

    def stop(self, event: Event | None = None, point: Breakpoint | None = None) -> bool:
        """Hold the guest here and do what the person says, until it is to go on. False if there is nobody to
        say it, or no guest."""
        if self._silent or self.reach is None:
            return False
        reach = self.reach
        reach.pause()
        self.event, self.point = event, point
        self.points.forget_once()
        self.terminal.open(self.complete)
        try:
            self._say_where()
            self._converse()
        except Closing as closing:
            self._silent = True
            reach.end(str(closing))
        finally:
            self.terminal.close()
            self.event = self.point = None
            reach.resume()
        return True

    def _say_where(self) -> None:
        if self.event is None:
            rip = self.machine.registers()["rip"]
            self.say(f"the guest was stopped at RIP {rip:#x} {self.symbols.name(rip)}".rstrip())
            return
        number = f"breakpoint {self.point.number}, " if self.point is not None and not self.point.once else ""
        self.say(f"{number}event {self.event.sequence}: {self.line()}")

    def line(self) -> str:
        """The event in a line."""
        assert self.event is not None
        return details.one_line(self.event, self.decoder, colored=self.terminal.colored)

    def _converse(self) -> None:
        self.going = False
        while not self.going:
            try:
                text = self.terminal.ask()
            except KeyboardInterrupt:
                continue
            if text is None:
                self._leave()
                return
            self.do(text)

    def _leave(self) -> None:
        """There are no more commands: the guest is not to wait for any."""
        self._silent = True
        self.points.delete()
        self.say("no more commands: the guest goes on without breakpoints")

    def do(self, text: str) -> None:
        """Carry out one command; an empty one is the one before, if that can be meant."""
        from ringminus.lens.breakpoints.commands import find

        try:
            words = shlex.split(text, comments=True)
        except ValueError as error:
            self.say(f"that cannot be read: {error}")
            return
        if not words:
            if text.strip() or not self._last:
                return
            words = self._last
        try:
            command = find(words[0])
            self._last = words if command.repeats else []
            command.run(self, words[1:] if not command.whole else _rest(text, words))
        except (Usage, ChangeError, ConfigError) as error:
            self.say(str(error))

    def say(self, text: str) -> None:
        """Print a line."""
        self.terminal.say(text)

    # ------------------------------------------------------------ completion

    def complete(self, text: str) -> Sequence[str]:
        """What a line may become whose last word is to be completed: commands, then what they take."""
        from ringminus.lens.breakpoints.commands import COMMANDS, find

        word, space, rest = text.partition(" ")
        if not space:
            return [name for name in COMMANDS if name.startswith(word)]
        try:
            command = find(word)
        except Usage:
            return []
        return [f"{word} {one}" for one in command.complete(self, rest)[:MOST_COMPLETIONS]]


def _rest(text: str, words: list[str]) -> list[str]:
    """All that follows the command, as it was written."""
    rest = text.strip().partition(" ")[2].strip() if text.strip() else " ".join(words[1:])
    return [rest] if rest else []
