"""The line for filters and names of files, with errors at their place and completion."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Label, Static

from ringminus.lens.filter import FilterError
from ringminus.lens.tui.completion import complete

MOST_REMEMBERED = 100


class LineInput(Input):
    """One line of input; Tab completes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", "complete", priority=True),
        Binding("escape", "leave", "leave it"),
        Binding("up", "remembered(-1)", "earlier", show=False),
        Binding("down", "remembered(1)", "later", show=False),
    ]

    class Left(Message):
        """Nothing is wanted after all."""

    class Completed(Message):
        """These could follow."""

        def __init__(self, candidates: list[str]) -> None:
            self.candidates = candidates
            super().__init__()

    def __init__(self) -> None:
        super().__init__(compact=True, id="input", select_on_focus=False)
        self.completes = True
        self.remembered: list[str] = []
        self._at = 0

    def action_complete(self) -> None:
        """Complete what stands before the cursor."""
        if not self.completes:
            return
        found = complete(self.value[: self.cursor_position])
        if len(found.common) > self.cursor_position - found.start:
            before, after = self.value[: found.start], self.value[self.cursor_position :]
            self.value = before + found.common + after
            self.cursor_position = found.start + len(found.common)
        if len(found.candidates) != 1 or found.common.endswith("."):
            found = complete(self.value[: self.cursor_position])
            self.call_after_refresh(self.post_message, self.Completed(found.candidates))

    def action_leave(self) -> None:
        """Leave it without doing anything."""
        self.post_message(self.Left())

    def action_remembered(self, step: int) -> None:
        """What was written earlier."""
        if self.completes and self.remembered:
            self._at = min(max(self._at + step, 0), len(self.remembered))
            self.value = self.remembered[self._at] if self._at < len(self.remembered) else ""
            self.cursor_position = len(self.value)

    def remember(self, text: str) -> None:
        """Keep it for later."""
        if text and (not self.remembered or self.remembered[-1] != text):
            self.remembered = [*self.remembered, text][-MOST_REMEMBERED:]
        self._at = len(self.remembered)


class FilterLine(Vertical):
    """Asks for a line; `Said` has it once it is accepted."""

    class Said(Message):
        """The line, and what it was asked for."""

        def __init__(self, purpose: str, text: str) -> None:
            self.purpose, self.text = purpose, text
            super().__init__()

    def __init__(self, check: Callable[[str], object]) -> None:
        super().__init__(id="asking")
        self._check = check
        self._purpose = ""
        self._input, self._hint, self._prompt = LineInput(), Static(id="hint"), Label(id="prompt")

    def compose(self) -> ComposeResult:
        """A hint above the line."""
        yield self._hint
        with Horizontal(id="line"):
            yield self._prompt
            yield self._input

    def ask(self, purpose: str, prompt: str, text: str) -> None:
        """Let the person write a line. For the purpose `filter` it is checked and completed."""
        self._purpose = purpose
        self._input.completes = purpose == "filter"
        self._prompt.update(prompt)
        self._input.value = text
        self._input.cursor_position = len(text)
        self._input.remember("")
        self._hint.update(Text("Tab completes, Enter shows what matches, Esc leaves it", "dim"))
        self.display = True
        self._input.focus()

    def leave(self) -> None:
        """Take the line away."""
        self.display = False

    @property
    def hint(self) -> str:
        """What is said about the line."""
        return str(self._hint.content)

    def complain(self, problem: str) -> None:
        """Say what is wrong with the line."""
        self._hint.update(Text(_printable(problem), "bold red", no_wrap=True, overflow="ellipsis"))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say at once where it is wrong, unless that is at the end, where more may come."""
        event.stop()
        if self._purpose != "filter":
            return
        try:
            self._check(event.value)
        except FilterError as error:
            found = complete(event.value[: self._input.cursor_position])
            if error.start + error.length <= found.start:  # and not in the word that is being written
                self._point_at(error)
            else:
                self._hint.update(self._candidates(found.candidates))
        else:
            self._hint.update(Text("Enter shows what matches", "dim"))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take it, if it is right."""
        event.stop()
        if self._purpose == "filter":
            try:
                self._check(event.value)
            except FilterError as error:
                self._point_at(error)
                return
            self._input.remember(event.value.strip())
        self.post_message(self.Said(self._purpose, event.value.strip()))

    def on_line_input_left(self, event: LineInput.Left) -> None:
        """Somebody has thought better of it."""
        event.stop()
        self.post_message(self.Said("", ""))

    def on_line_input_completed(self, event: LineInput.Completed) -> None:
        """Show what could follow."""
        event.stop()
        self._hint.update(self._candidates(event.candidates))

    def _candidates(self, found: list[str]) -> Text:
        shorter = [one for one in found if one + "." not in found]
        text = "  ".join(shorter) if found else "there is no field or value of that name"
        return Text(text, "" if found else "bold red", no_wrap=True, overflow="ellipsis")

    def _point_at(self, error: FilterError) -> None:
        """Marks above the place."""
        width = max(self.size.width, 1)
        at = self._input.content_region.x - self.content_region.x + error.start - round(self._input.scroll_x)
        at = min(max(at, 0), width - 1)
        marks = "v" * min(error.length, width - at)
        problem = _printable(error.problem)
        rest = width - at - len(marks) - 1
        if len(problem) <= rest:
            line = f"{' ' * at}{marks} {problem}"
        elif len(problem) < at:
            line = f"{' ' * (at - len(problem) - 1)}{problem} {marks}"
        else:
            line = f"{problem}\n{' ' * at}{marks}"
        self._hint.update(Text(line, "bold red"))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
