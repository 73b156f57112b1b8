"""The demo guest, built once, and a way to run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringminus.errors import HostError
from ringminus.guest.build import GuestImage, build
from support.command import Run, RunGuest, kernel_words, run_command

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def demo_guest() -> GuestImage:
    try:
        return build(REPOSITORY / ".cache" / "guest")
    except HostError as error:
        pytest.skip(f"no demo guest here: {error}")


@pytest.fixture(scope="session")
def guest_options(demo_guest: GuestImage) -> list[str]:
    return ["--kernel", str(demo_guest.kernel), "--initrd", str(demo_guest.initrd)]


@pytest.fixture(scope="session")
def run_guest(guest_options: list[str]) -> RunGuest:
    def run(*options: str, script: str | None = None, words: str = "", timeout: float = 120) -> Run:
        arguments = ["run", *guest_options, "--console", "stdio", "--append", kernel_words(script, words)]
        return run_command(*arguments, *options, timeout=timeout)

    return run
