"""The application on a screen of its own, for tests: what it shows as text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
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
            self.app.post_message(Key(key, KEYS.get(key, key if len(key) == 1 else None)))
            for _ in range(2):  # what the key leads to may lead to more
                await self._pilot._wait_for_screen()

    async def type(self, text: str) -> None:
        names = {char: name for name, char in KEYS.items()}
        await self.press(*(names.get(char, char) for char in text))

    async def until(self, found: Callable[[], object]) -> None:
        """Wait until that is true."""
        end = time.monotonic() + PATIENCE
        while not found():
            assert time.monotonic() < end, self.text
            await asyncio.sleep(0.04)

    async def shows(self, text: str) -> None:
        """Wait until that is on the screen."""
        await self.until(lambda: text in self.text)

    async def selects(self, position: int) -> None:
        """Wait until the event at that position is selected, and taken apart."""
        detail = self.app.detail
        await self.until(lambda: detail.shown is not None and detail.shown.position == position)

    async def settle(self) -> None:
        """Wait until what was begun is on the screen."""
        await self._pilot._wait_for_screen()

    async def read(self) -> None:
        """Wait until all events are there."""
        await self.until(lambda: self.app.intake.done)
        await asyncio.sleep(0.15)
        await self._pilot._wait_for_screen()


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

    async def play() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            await scenario(Screen(app, pilot))

    asyncio.run(play())
