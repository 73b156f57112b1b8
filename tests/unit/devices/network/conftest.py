"""A guest whose adapter is up, and the port that it is plugged into."""

from __future__ import annotations

import pytest

from support.network import ALL_OFFLOADS, NetworkBed


@pytest.fixture
def bed() -> NetworkBed:
    made = NetworkBed()
    made.guest.connect(offloads=ALL_OFFLOADS)
    return made
