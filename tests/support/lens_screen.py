"""The application on a screen of its own, for tests: what it shows as text."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from textual.events import Key
from textual.pilot import Pilot

from ringminus.lens.tui.app import LensApp

PATIENCE = 10.0
Scenario = Callable[["Screen"], Coroutine[Any, Any, None]]


class Screen:
    """What a person sees and does."""

    def __init__(self, app: LensApp, pilot: Pilot[None]) -> None:
        self.app, self._pilot = app, pilot

    @property
    def lines(self) -> list[str]:
        """The lines on the screen."""
        strips = self.app.screen._compositor.render_strips()
        return [strip.text.rstrip() for strip in strips]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def press(self, *keys: str) -> None:
        for key in keys:
            self._post(key)
            await self.settle()

    async def type(self, text: str) -> None:
        """As fast as nobody types: all is in one widget."""
        names = {char: name for name, char in KEYS.items()}
        for char in text:
            self._post(names.get(char, char))
        await self.settle()

    def _post(self, key: str) -> None:
        self.app.post_message(Key(key, KEYS.get(key, key if len(key) == 1 else None)))

    async def click(self, x: int, y: int) -> None:
        await self._pilot.click(offset=(x, y))

    async def resize(self, width: int, height: int) -> None:
        """The terminal has another size."""
        await self._pilot.resize_terminal(width, height)
        await self.until(lambda: self.app.screen._compositor.size == (width, height))

    async def until(self, found: Callable[[], object]) -> None:
        """Wait until that is true."""
        end = time.monotonic() + PATIENCE
        while not found():
            assert time.monotonic() < end, self.text
            await asyncio.sleep(0.02)

    async def shows(self, text: str) -> None:
        """Wait until that is on the screen."""
        await self.until(lambda: text in self.text)

    async def selects(self, position: int) -> None:
        """Wait until the event at that position is selected, and taken apart."""
        detail = self.app.detail
        await self.until(lambda: detail.shown is not None and detail.shown.position == position)

    async def settle(self) -> None:
        """Wait until what was begun is on the screen."""
        for _ in range(2):  # what it leads to may lead to more
            await self._pilot._wait_for_screen()

    async def read(self) -> None:
        """Wait until all events are there."""
        await self.until(lambda: self.app.intake.done)
        self.app._tick()
        await self.settle()


KEYS = {
    "space": " ",
    "equals_sign": "=",
    "full_stop": ".",
    "underscore": "_",
    "slash": "/",
    "question_mark": "?",
}
"""Keys that are not called as what they type."""


def on_screen(app: LensApp, scenario: Scenario, size: tuple[int, int] = (80, 24)) -> None:
    """Play a scenario."""
    with session(app, size) as play:
        play(scenario)


@contextlib.contextmanager
def session(app: LensApp, size: tuple[int, int] = (80, 24)) -> Iterator[Callable[[Scenario], None]]:
    """An application for several scenarios, one after the other; it stands still between them."""
    with asyncio.Runner() as runner:
        running = app.run_test(size=size, notifications=True)
        pilot = runner.run(running.__aenter__())
        error: tuple[Any, Any, Any] = (None, None, None)
        try:
            yield lambda scenario: runner.run(scenario(Screen(app, pilot)))
        except BaseException as found:
            error = (type(found), found, found.__traceback__)
            raise
        finally:
            runner.run(running.__aexit__(*error))


async def afresh(screen: Screen) -> None:
    """As after the start, whatever has been done."""
    app = screen.app
    while len(app.screen_stack) > 1:
        await app.pop_screen()
    app.asking.leave()
    app.clear_notifications()
    app.events.marked.clear()
    app._back.clear()
    app.one.current = "fields"
    app._filter("")
    app.action_view("events")
    app.events.select(0)
    await screen.settle()
    await screen.selects(0)
