"""Where the guests of the tests are kept once built."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

CACHE = Path(__file__).parents[2] / ".cache"


def one_builds() -> FileLock:
    """Of the processes that run tests one builds a guest, and the others then find it built."""
    CACHE.mkdir(exist_ok=True)
    return FileLock(CACHE / "guest.lock")
