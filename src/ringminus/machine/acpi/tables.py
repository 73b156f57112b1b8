"""All ACPI tables of a machine: RSDP, XSDT, hardware-reduced FADT, MADT and DSDT.

Source: ACPI 6.5, chapter 5. What the VMBUS device must look like follows Linux's hv_vmbus driver.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ringminus.errors import ConfigError
from ringminus.hypervisor.apic_registers import APIC_DEFAULT_BASE, XAPIC_DESTINATION_ALL
from ringminus.hypervisor.ioapic import IOAPIC_BASE
from ringminus.machine.acpi import aml
from ringminus.machine.acpi.wire import (
    CHECKSUM_OFFSET,
    RSDP_V1_SIZE,
    AddressSpace,
    BootArchitecture,
    Fadt,
    FadtFlag,
    GenericAddress,
    MadtHead,
    MadtIoApic,
    MadtLocalApic,
    MadtLocalX2Apic,
    Rsdp,
    TableHeader,
    XsdtEntry,
)
from ringminus.machine.chipset import power, rtc, serial
from ringminus.machine.memory_map import Area, MemoryMap

_ALIGNMENT = 64
DEVICE_WORKS = 0x0F
"""_STA: present, enabled, shown and functioning."""


@dataclass(frozen=True, slots=True)
class AcpiTables:
    """`tables` are (guest-physical address, bytes) to put into memory; `rsdp` is where they begin."""

    rsdp: int
    tables: tuple[tuple[int, bytes], ...]


def _checksum(data: bytes) -> int:
    return -sum(data) & 0xFF


def _header(signature: bytes, revision: int, length: int) -> TableHeader:
    return TableHeader(signature=signature, revision=revision, length=length)


def _sealed(table: bytes) -> bytes:
    """The table with its checksum, which must have been 0."""
    return table[:CHECKSUM_OFFSET] + bytes([_checksum(table)]) + table[CHECKSUM_OFFSET + 1 :]


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    return _sealed(_header(signature, revision, TableHeader.SIZE + len(body)).pack() + body)


def rsdp(xsdt: int) -> bytes:
    """The root pointer, which names the XSDT."""
    pointer = Rsdp(xsdt_address=xsdt)
    pointer.checksum = _checksum(pointer.pack()[:RSDP_V1_SIZE])
    pointer.extended_checksum = _checksum(pointer.pack())
    return pointer.pack()


def xsdt(tables: Iterable[int]) -> bytes:
    """The list of tables."""
    return _table(b"XSDT", 1, b"".join(XsdtEntry(address=address).pack() for address in tables))


def _port(number: int) -> GenericAddress:
    return GenericAddress(space=AddressSpace.IO, width=8, access_size=1, address=number)


def fadt(dsdt: int) -> bytes:
    """Hardware-reduced: no PM timer, no SCI, sleeping and resetting through two ports."""
    flags = (
        FadtFlag.HARDWARE_REDUCED
        | FadtFlag.RESET_REGISTER
        | FadtFlag.POWER_BUTTON_IS_DEVICE
        | FadtFlag.SLEEP_BUTTON_IS_DEVICE
    )
    boot = (
        BootArchitecture.VGA_NOT_PRESENT
        | BootArchitecture.MSI_NOT_SUPPORTED
        | BootArchitecture.CMOS_RTC_NOT_PRESENT
    )
    table = Fadt(
        header=_header(b"FACP", 6, Fadt.SIZE),
        dsdt=dsdt,
        x_dsdt=dsdt,
        century=rtc.Register.CENTURY,
        boot_architecture=boot,
        flags=flags,
        reset_register=_port(power.RESET_PORT),
        reset_value=power.RESET_VALUE,
        sleep_control=_port(power.SLEEP_CONTROL_PORT),
        sleep_status=_port(power.SLEEP_STATUS_PORT),
    )
    return _sealed(table.pack())


def _processor(apic_id: int) -> bytes:
    if apic_id < XAPIC_DESTINATION_ALL:
        return MadtLocalApic(processor_uid=apic_id, apic_id=apic_id).pack()
    return MadtLocalX2Apic(processor_uid=apic_id, apic_id=apic_id).pack()


def madt(vp_count: int) -> bytes:
    """One local APIC for each virtual processor, whose APIC id is its index, and the I/O APIC."""
    entries = b"".join(_processor(index) for index in range(vp_count))
    entries += MadtIoApic(id=0, address=IOAPIC_BASE).pack()
    header = _header(b"APIC", 4, MadtHead.SIZE + len(entries))
    return _sealed(MadtHead(header=header, local_apic_address=APIC_DEFAULT_BASE).pack() + entries)


def _com1() -> bytes:
    return aml.device(
        "COM1",
        aml.name("_HID", aml.eisa_id("PNP0501")),
        aml.name("_UID", aml.integer(1)),
        aml.name(
            "_CRS",
            aml.resource_template(aml.io(serial.COM1, serial.PORTS), aml.irq_no_flags(serial.COM1_IRQ)),
        ),
    )


def _rtc() -> bytes:
    return aml.device(
        "RTC0",
        aml.name("_HID", aml.eisa_id("PNP0B00")),
        aml.name("_CRS", aml.resource_template(aml.io(rtc.INDEX_PORT, 2))),
    )


def _vmbus(low: Area, high: Area) -> bytes:
    """The bus under a module device that owns its MMIO. Linux refuses a bus without a _CRS, even if it is
    empty, and then looks for MMIO in the parents'."""
    bus = aml.device(
        "VMBS",
        aml.name("_HID", aml.string("VMBUS")),
        aml.name("_UID", aml.integer(0)),
        aml.method("_STA", 0, aml.returns(aml.integer(DEVICE_WORKS))),
        aml.name("_CRS", aml.resource_template()),
    )
    windows = aml.resource_template(
        aml.dword_memory(low.gpa, low.size), aml.qword_memory(high.gpa, high.size)
    )
    return aml.device(
        "VMOD",
        aml.name("_HID", aml.string("ACPI0004")),
        aml.name("_UID", aml.integer(0)),
        aml.name("_CRS", windows),
        bus,
    )


def dsdt(memory_map: MemoryMap) -> bytes:
    """The devices that cannot be discovered, and how to switch off."""
    s5 = aml.package(*(aml.integer(value) for value in (power.SLEEP_TYPE_S5, 0, 0, 0)))
    devices = aml.scope("_SB_", _com1(), _rtc(), _vmbus(memory_map.low_mmio, memory_map.high_mmio))
    return _table(b"DSDT", 2, aml.name("_S5_", s5) + devices)


def build_tables(memory_map: MemoryMap, vp_count: int) -> AcpiTables:
    """All tables of a machine, placed in the map's area; raises `ConfigError` when they do not fit."""
    area = memory_map.acpi_tables
    placed: list[tuple[int, bytes]] = []
    free = area.gpa + _ALIGNMENT  # the RSDP comes last but stands first

    def place(table: bytes) -> int:
        nonlocal free
        where, free = free, free + -(-len(table) // _ALIGNMENT) * _ALIGNMENT
        placed.append((where, table))
        return where

    definitions = place(dsdt(memory_map))
    root = place(xsdt([place(fadt(definitions)), place(madt(vp_count))]))
    if free > area.end:
        raise ConfigError(
            f"{vp_count} processors are too many: their ACPI tables need {free - area.end} bytes more"
        )
    return AcpiTables(area.gpa, ((area.gpa, rsdp(root)), *placed))
