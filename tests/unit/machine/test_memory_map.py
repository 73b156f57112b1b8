"""The memory map: nothing overlaps, whatever the size, and the guest is told the truth."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ringminus.errors import ConfigError
from ringminus.machine.loader.wire import E820_ACPI, E820_RAM, E820_RESERVED
from ringminus.machine.memory_map import Area, MemoryMap
from ringminus.memory import GIB, HIGH_RAM_BASE, LOW_RAM_END, MIB, GuestMemory, Region

SIZES = [64 * MIB, 512 * MIB, 3 * GIB, 4 * GIB, 8 * GIB]


def regions(size: int) -> tuple[Region, ...]:
    """As GuestMemory lays them out, without needing a host that has as much."""
    low = min(size, LOW_RAM_END)
    high = Region(HIGH_RAM_BASE, size - low, low)
    return (Region(0, low, 0), high) if high.size else (Region(0, low, 0),)


def disjoint(areas: list[Area]) -> bool:
    ordered = sorted(areas, key=lambda area: area.gpa)
    return all(first.end <= second.gpa for first, second in pairwise(ordered))


@pytest.fixture(params=SIZES, ids=lambda size: f"{size // MIB}MiB")
def size(request: pytest.FixtureRequest) -> int:
    assert isinstance(request.param, int)
    return request.param


def test_the_layout_assumed_here_is_that_of_guest_memory() -> None:
    assert GuestMemory(64 * MIB).regions == regions(64 * MIB)


def test_devices_and_ram_do_not_overlap(size: int) -> None:
    memory_map = MemoryMap(regions(size))
    ram = [Area("RAM", region.gpa, region.size) for region in memory_map.regions]
    assert disjoint(ram + memory_map.device_areas())


def test_windows_avoid_the_addresses_that_pcs_use(size: int) -> None:
    memory_map = MemoryMap(regions(size))
    taken = [Area("TPM", 0xFED40000, 0x5000), Area("HPET", 0xFED00000, 0x1000)]
    assert disjoint(taken + memory_map.device_areas())
    assert memory_map.low_mmio.end <= 4 * GIB <= memory_map.high_mmio.gpa


def test_what_the_loader_places_is_in_ram_told_as_ram(size: int) -> None:
    memory_map = MemoryMap(regions(size))
    areas = memory_map.boot_areas()
    assert disjoint([*areas, memory_map.acpi_tables])
    ram = [entry for entry in memory_map.e820() if entry.type == E820_RAM]
    for area in areas:
        assert any(e.address <= area.gpa and area.end <= e.address + e.size for e in ram), area


def test_the_table_for_the_guest_is_sorted_and_adds_up(size: int) -> None:
    entries = MemoryMap(regions(size)).e820()
    assert disjoint([Area(str(entry.type), entry.address, entry.size) for entry in entries])
    assert entries == sorted(entries, key=lambda entry: entry.address)
    hole = 0xE0000 - 0xA0000
    assert sum(entry.size for entry in entries) == size - hole


def test_512_mib_in_full() -> None:
    entries = [(e.address, e.size, e.type) for e in MemoryMap(regions(512 * MIB)).e820()]
    assert entries == [
        (0, 0x9D000, E820_RAM),
        (0x9D000, 0x3000, E820_RESERVED),
        (0xE0000, 0x20000, E820_ACPI),
        (MIB, 511 * MIB, E820_RAM),
    ]


@pytest.mark.parametrize(
    ("size", "base"), [(64 * MIB, 4 * GIB), (4 * GIB, 5 * GIB), (4 * GIB + MIB, 6 * GIB), (8 * GIB, 9 * GIB)]
)
def test_the_high_window_follows_ram(size: int, base: int) -> None:
    assert MemoryMap(regions(size)).high_mmio.gpa == base


def test_a_machine_without_extended_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2 MiB"):
        MemoryMap(regions(MIB))


def test_the_monitor_pages_are_ram_that_the_guest_is_told_not_to_use() -> None:
    layout = MemoryMap(regions(512 * MIB))
    pages = layout.monitor_pages
    (holder,) = [e for e in layout.e820() if e.address <= pages.gpa < e.address + e.size]
    assert holder.type == E820_RESERVED
    assert pages.end <= holder.address + holder.size
    assert all(area.end <= pages.gpa or area.gpa >= pages.end for area in layout.boot_areas())
