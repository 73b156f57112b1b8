"""A bare-metal guest, and the debugger's side of its processor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ringminus.cpu.engine import ProcessorDebug
from support.bare_metal import BareGuest


@pytest.fixture
def bare() -> Iterator[BareGuest]:
    guest = BareGuest("hlt")
    yield guest
    guest.close()


@pytest.fixture
def debug(bare: BareGuest) -> ProcessorDebug:
    return bare.processor.debug()
