"""The terminal of the prompt at breakpoints: a person with history and completion, or a pipe."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from ringminus.cli.terminal import STDIN, STDOUT, RawTerminal
from ringminus.lens.breakpoints.prompt import Closing

PROMPT = "(break) "
HISTORY = 1000
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class PromptTerminal:
    """See `lens.breakpoints.prompt.Terminal`. `raw` is the terminal while the guest has it."""

    def __init__(self, raw: Callable[[], RawTerminal | None]) -> None:
        self.colored = os.isatty(STDOUT) and "NO_COLOR" not in os.environ
        self._raw = raw
        self._is_person = os.isatty(STDIN)
        self._complete: Callable[[str], Sequence[str]] = lambda _: ()
        self._readline: Any = None
        self._before: dict[int, Any] = {}
        self._wakeup = -1
        self._asks = False
        self._ended_by = ""

    def open(self, complete: Callable[[str], Sequence[str]]) -> None:
        self._complete = complete
        raw = self._raw()
        if raw is not None:
            raw.restore()
            self.say("")
        self._take_signals()
        if self._is_person:
            self._use_readline()

    def close(self) -> None:
        sys.stdout.flush()
        if self._readline is not None:
            with contextlib.suppress(OSError):
                _history().parent.mkdir(parents=True, exist_ok=True)
                self._readline.write_history_file(_history())
        self._give_signals_back()
        raw = self._raw()
        if raw is not None:
            raw.set_raw()

    def ask(self) -> str | None:
        if self._ended_by:
            raise Closing(self._ended_by)
        self._asks = True
        try:
            return self._line()
        except KeyboardInterrupt:
            self.say("")
            raise
        finally:
            self._asks = False

    def _line(self) -> str | None:
        if self._is_person:
            try:
                return input(PROMPT)
            except EOFError:  # Ctrl-D: go on
                self.say("continue")
                return "continue"
        text = sys.stdin.readline()
        if not text:
            return None
        self.say(f"{PROMPT}{text.rstrip()}")
        return text.rstrip("\n")

    def say(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            print(text, flush=True)

    # ------------------------------------------------------------ signals

    def _take_signals(self) -> None:
        """The loop stands still: signals come to the prompt, and not once more to the loop."""
        self._wakeup = signal.set_wakeup_fd(-1)
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
        signal.signal(signal.SIGINT, self._interrupted)
        for number in ENDING:
            signal.signal(number, self._ending)

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        if self._asks:
            raise KeyboardInterrupt

    def _ending(self, number: int, _frame: FrameType | None) -> None:
        self._ended_by = f"by {signal.Signals(number).name}"
        if self._asks:
            raise Closing(self._ended_by)

    def _give_signals_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)

    # ------------------------------------------------------------ readline

    def _use_readline(self) -> None:
        if self._readline is not None:
            return
        try:
            import readline
        except ImportError:
            return
        self._readline = readline
        with contextlib.suppress(OSError):
            readline.read_history_file(_history())
        readline.set_history_length(HISTORY)
        readline.set_completer_delims("")  # the whole line is completed
        readline.set_completer(self._completion)
        readline.parse_and_bind("tab: complete")

    def _completion(self, text: str, state: int) -> str | None:
        with contextlib.suppress(Exception):  # readline shows nothing of what is raised
            found = self._complete(text)
            if state < len(found):
                return found[state]
        return None


def _history() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "ringminus" / "break_history"
