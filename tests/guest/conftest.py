"""The demo guest, built once, and a way to run it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Protocol

import pytest

from ringminus.errors import HostError
from ringminus.guest.build import GuestImage, build
from support.command import Run, run_command

REPOSITORY = Path(__file__).parents[2]


class RunGuest(Protocol):
    """Boots the demo guest with the given options; `script` runs in it, `words` are for its kernel."""

    def __call__(
        self, *options: str, script: str | None = None, words: str = "", timeout: float = 120
    ) -> Run: ...


@pytest.fixture(scope="session")
def demo_guest() -> GuestImage:
    try:
        return build(REPOSITORY / ".cache" / "guest")
    except HostError as error:
        pytest.skip(f"no demo guest here: {error}")


@pytest.fixture(scope="session")
def guest_options(demo_guest: GuestImage) -> list[str]:
    return ["--kernel", str(demo_guest.kernel), "--initrd", str(demo_guest.initrd)]


def kernel_words(script: str | None, words: str) -> str:
    """A kernel command line that makes the demo guest run `script`."""
    if script is None:
        return words
    return f"{words} ringminus.script={base64.b64encode(script.encode()).decode()}".strip()


@pytest.fixture(scope="session")
def run_guest(guest_options: list[str]) -> RunGuest:
    def run(*options: str, script: str | None = None, words: str = "", timeout: float = 120) -> Run:
        arguments = ["run", *guest_options, "--console", "stdio", "--append", kernel_words(script, words)]
        return run_command(*arguments, *options, timeout=timeout)

    return run
