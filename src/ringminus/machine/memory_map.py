"""Where everything of a machine is in guest-physical memory.

0x00000500  GDT, boot parameters, stack, page tables, command line (see loader.linux.BootLayout)
0x0009d000  reserved: the monitor pages that the bus offers, and a PC's extended BIOS data area
0x000e0000  ACPI tables, up to 1 MiB
1 MiB       RAM, up to 3 GiB
0xe0000000  MMIO for VMBus devices that need 32-bit addresses
0xfec00000  I/O APIC; 0xfee00000 local APICs
4 GiB       the rest of the RAM
above it    MMIO for VMBus devices, from the next multiple of 1 GiB
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ringminus.errors import ConfigError
from ringminus.hypervisor.apic_registers import APIC_DEFAULT_BASE, APIC_MMIO_SIZE
from ringminus.hypervisor.ioapic import IOAPIC_BASE, IOAPIC_MMIO_SIZE
from ringminus.machine.loader.linux import SEED_SIZE, BootLayout
from ringminus.machine.loader.wire import (
    E820_ACPI,
    E820_RAM,
    E820_RESERVED,
    BootGdt,
    BootParams,
    E820Entry,
    SetupData,
)
from ringminus.memory import GIB, HIGH_RAM_BASE, MIB, PAGE_SIZE, Region

SMALLEST_RAM = 2 * MIB
MONITOR_PAGES_BASE = 0x9D000
VIDEO_BASE = 0xA0000
ACPI_BASE = 0xE0000
LOW_MMIO_BASE = 0xE0000000
HIGH_MMIO_SIZE = 4 * GIB
BOOT_PAGE_TABLES = 6


@dataclass(frozen=True, slots=True)
class Area:
    """A named stretch of guest-physical memory, in bytes."""

    name: str
    gpa: int
    size: int

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.gpa + self.size


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """The map of a machine with RAM in `regions` (GuestMemory.regions). Raises `ConfigError` below 2 MiB."""

    regions: Sequence[Region]
    boot: BootLayout = field(default_factory=BootLayout)

    def __post_init__(self) -> None:
        if self.regions[0].size < SMALLEST_RAM:
            raise ConfigError(f"a machine needs at least {SMALLEST_RAM // MIB} MiB of memory")

    @property
    def acpi_tables(self) -> Area:
        """Where the ACPI tables are; the RSDP is at its beginning."""
        return Area("ACPI tables", ACPI_BASE, MIB - ACPI_BASE)

    @property
    def monitor_pages(self) -> Area:
        """RAM that the guest does not use: the bus's page of notifications to the guest, and to us."""
        return Area("monitor pages", MONITOR_PAGES_BASE, 2 * PAGE_SIZE)

    @property
    def low_mmio(self) -> Area:
        """The window for VMBus devices below 4 GiB."""
        return Area("low MMIO", LOW_MMIO_BASE, IOAPIC_BASE - LOW_MMIO_BASE)

    @property
    def high_mmio(self) -> Area:
        """The window for VMBus devices above RAM and 4 GiB."""
        end_of_ram = max(region.gpa + region.size for region in self.regions)
        base = -(-max(end_of_ram, HIGH_RAM_BASE) // GIB) * GIB
        return Area("high MMIO", base, HIGH_MMIO_SIZE)

    def boot_areas(self) -> list[Area]:
        """What the loader puts into low RAM; the guest may overwrite it once it has read it."""
        boot = self.boot
        stack = boot.boot_params + BootParams.SIZE
        return [
            Area("GDT", boot.gdt, BootGdt.SIZE),
            Area("boot parameters", boot.boot_params, BootParams.SIZE),
            Area("stack", stack, boot.stack_top - stack),
            Area("page tables", boot.page_tables, BOOT_PAGE_TABLES * PAGE_SIZE),
            Area("random seed", boot.random_seed, SetupData.SIZE + SEED_SIZE),
            Area("command line", boot.command_line, boot.command_line_size),
        ]

    def device_areas(self) -> list[Area]:
        """What is not RAM."""
        return [
            self.low_mmio,
            Area("I/O APIC", IOAPIC_BASE, IOAPIC_MMIO_SIZE),
            Area("local APIC", APIC_DEFAULT_BASE, APIC_MMIO_SIZE),
            self.high_mmio,
        ]

    def e820(self) -> list[E820Entry]:
        """The map as the guest is told, in order."""
        low, reserved = self.regions[0], self.monitor_pages.gpa
        entries = [
            E820Entry(address=0, size=reserved),
            E820Entry(address=reserved, size=VIDEO_BASE - reserved, type=E820_RESERVED),
            E820Entry(address=self.acpi_tables.gpa, size=self.acpi_tables.size, type=E820_ACPI),
            E820Entry(address=MIB, size=low.size - MIB),
        ]
        entries += (E820Entry(address=r.gpa, size=r.size, type=E820_RAM) for r in self.regions[1:])
        return entries
