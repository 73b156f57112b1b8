"""Wire structures are those that a guest's kernel was compiled with: names, offsets, sizes."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator

import pytest

import ringminus
from layout import tables
from layout.comparison import (
    Same,
    SameBits,
    SameNumbers,
    bit_differences,
    differences,
    number_differences,
)
from ringminus.wire import Struct
from support.kernel_types import KernelTypes

CHECKED = tuple(
    f"ringminus.{part}." for part in ("hypervisor", "vmbus", "devices", "machine", "guest", "switch")
)
TABLES = [importlib.import_module(f"layout.tables.{m.name}") for m in pkgutil.iter_modules(tables.__path__)]
SAME: list[Same] = [same for table in TABLES for same in table.SAME]
NUMBERS: list[SameNumbers] = [same for table in TABLES for same in table.NUMBERS]
BITS: list[SameBits] = [same for table in TABLES for same in table.BITS]
STRUCTURES = list(dict.fromkeys(same.wire for same in SAME))


def compare(same: Same, kernel: KernelTypes) -> list[str]:
    try:
        return differences(same, kernel.types(same.module))
    except KeyError as error:
        return [f"{same.module}: {error.args[0]}"]


def declarations() -> Iterator[type[Struct]]:
    """Every structure that the checked packages declare, wherever they do."""
    for found in pkgutil.walk_packages(ringminus.__path__, "ringminus."):
        if not found.name.startswith(CHECKED):
            continue
        for value in vars(importlib.import_module(found.name)).values():
            if isinstance(value, type) and issubclass(value, Struct) and value.__module__ == found.name:
                yield value


@pytest.mark.parametrize("wire", STRUCTURES, ids=lambda wire: f"{wire.__module__}.{wire.__name__}")
def test_a_structure_is_the_kernels(wire: type[Struct], kernel: KernelTypes) -> None:
    tried = [compare(same, kernel) for same in SAME if same.wire is wire]
    assert [] in tried, "\n".join(line for lines in tried for line in lines)


@pytest.mark.parametrize("same", NUMBERS, ids=lambda same: same.title)
def test_numbers_are_the_kernels(same: SameNumbers, kernel: KernelTypes) -> None:
    found = number_differences(same, kernel.types(same.module))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("same", BITS, ids=lambda same: same.title)
def test_bits_are_the_kernels(same: SameBits, kernel: KernelTypes) -> None:
    found = bit_differences(same, kernel.types(same.module))
    assert not found, "\n".join(found)


def test_no_structure_is_forgotten() -> None:
    """Each is in a table, once: compared, or with the reason why it cannot be."""
    compared, every = set(STRUCTURES), set(declarations())
    named = {named for table in TABLES for named in table.NOT_IN_LINUX}
    excused = {wire for wire in every if wire in named or sys.modules[wire.__module__] in named}
    assert every - compared - excused == set(), "add them to tests/layout/tables"
    assert compared & excused == set()
    assert compared - every == set()
    assert named - excused - {sys.modules[wire.__module__] for wire in excused} == set()
