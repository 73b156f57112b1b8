"""What tests of named switches share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.links import HostBed, LinkBed, own_runtime_directory


@pytest.fixture
def runtime() -> Iterator[Path]:
    with own_runtime_directory() as directory:
        yield directory


@pytest.fixture
def host(runtime: Path) -> Iterator[HostBed]:
    bed = HostBed()
    yield bed
    bed.close()


@pytest.fixture
def worker(runtime: Path) -> Iterator[LinkBed]:
    made = LinkBed()
    yield made
    made.close()
