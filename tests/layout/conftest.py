"""The kernels whose types our declarations are compared with.

RINGMINUS_LAYOUT_KERNELS names other kernel packages than the default guest's, with spaces between them,
such as "linux-image-cloud-amd64 linux-image-6.12-cloud-amd64".
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ringminus.errors import HostError
from ringminus.guest.build import DEFAULT_KERNEL_PACKAGE
from support.kernel_types import KernelTypes

PACKAGES = os.environ.get("RINGMINUS_LAYOUT_KERNELS", "").split() or [DEFAULT_KERNEL_PACKAGE]


@pytest.fixture(scope="session", params=PACKAGES)
def kernel(request: pytest.FixtureRequest) -> Iterator[KernelTypes]:
    try:
        types = KernelTypes(request.param)
    except HostError as error:
        pytest.skip(f"no kernel package here: {error}")
    yield types
    types.close()
