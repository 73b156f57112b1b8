"""ACPI's tables and resource descriptors: declarations only.

Source: ACPI 6.5, chapter 5 (tables) and section 6.4 (resource descriptors).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from ringminus.wire import U8, U16, U32, U64, Bytes, Struct

OEM_ID = b"RMINUS"
OEM_TABLE_ID = b"RINGMNUS"
CREATOR_ID = b"RMIN"

CHECKSUM_OFFSET = 9
RSDP_SIGNATURE = b"RSD PTR "
RSDP_V1_SIZE = 20


class TableHeader(Struct):
    """The head of every table but the RSDP; all bytes of a table sum up to 0."""

    signature: Annotated[bytes, Bytes(4)]
    length: U32
    revision: U8
    checksum: U8 = 0
    oem_id: Annotated[bytes, Bytes(6)] = OEM_ID
    oem_table_id: Annotated[bytes, Bytes(8)] = OEM_TABLE_ID
    oem_revision: U32 = 1
    creator_id: Annotated[bytes, Bytes(4)] = CREATOR_ID
    creator_revision: U32 = 1


class Rsdp(Struct):
    """Root system description pointer: the first 20 bytes sum up to 0, and so do all."""

    signature: Annotated[bytes, Bytes(8)] = RSDP_SIGNATURE
    checksum: U8 = 0
    oem_id: Annotated[bytes, Bytes(6)] = OEM_ID
    revision: U8 = 2
    rsdt_address: U32 = 0
    length: U32 = 36
    xsdt_address: U64
    extended_checksum: U8 = 0
    reserved: Annotated[bytes, Bytes(3)] = b""


class XsdtEntry(Struct):
    """One table that the XSDT points to."""

    address: U64


class AddressSpace(IntEnum):
    """Where a generic address is."""

    MEMORY = 0
    IO = 1


class GenericAddress(Struct):
    """Generic address structure; `width` in bits, `access_size` 1 is a byte."""

    space: U8 = 0
    width: U8 = 0
    offset: U8 = 0
    access_size: U8 = 0
    address: U64 = 0


def _nowhere() -> GenericAddress:
    return GenericAddress()


class FadtFlag(IntEnum):
    """Fixed feature flags."""

    POWER_BUTTON_IS_DEVICE = 1 << 4
    SLEEP_BUTTON_IS_DEVICE = 1 << 5
    RESET_REGISTER = 1 << 10
    HARDWARE_REDUCED = 1 << 20


class BootArchitecture(IntEnum):
    """IA-PC boot architecture flags."""

    VGA_NOT_PRESENT = 1 << 2
    MSI_NOT_SUPPORTED = 1 << 3
    CMOS_RTC_NOT_PRESENT = 1 << 5


class Fadt(Struct):
    """Fixed ACPI description table, revision 6: 276 bytes."""

    header: TableHeader
    firmware_control: U32 = 0
    dsdt: U32
    reserved_interrupt_model: U8 = 0
    preferred_profile: U8 = 0
    sci_interrupt: U16 = 0
    smi_command: U32 = 0
    acpi_enable: U8 = 0
    acpi_disable: U8 = 0
    s4bios_request: U8 = 0
    pstate_control: U8 = 0
    pm1a_event_block: U32 = 0
    pm1b_event_block: U32 = 0
    pm1a_control_block: U32 = 0
    pm1b_control_block: U32 = 0
    pm2_control_block: U32 = 0
    pm_timer_block: U32 = 0
    gpe0_block: U32 = 0
    gpe1_block: U32 = 0
    pm1_event_length: U8 = 0
    pm1_control_length: U8 = 0
    pm2_control_length: U8 = 0
    pm_timer_length: U8 = 0
    gpe0_length: U8 = 0
    gpe1_length: U8 = 0
    gpe1_base: U8 = 0
    cstate_control: U8 = 0
    c2_latency: U16 = 0
    c3_latency: U16 = 0
    flush_size: U16 = 0
    flush_stride: U16 = 0
    duty_offset: U8 = 0
    duty_width: U8 = 0
    day_alarm: U8 = 0
    month_alarm: U8 = 0
    century: U8 = 0
    boot_architecture: U16
    reserved_1: U8 = 0
    flags: U32
    reset_register: GenericAddress
    reset_value: U8
    arm_boot_architecture: U16 = 0
    minor_version: U8 = 5
    x_firmware_control: U64 = 0
    x_dsdt: U64
    x_pm1a_event_block: GenericAddress = _nowhere()
    x_pm1b_event_block: GenericAddress = _nowhere()
    x_pm1a_control_block: GenericAddress = _nowhere()
    x_pm1b_control_block: GenericAddress = _nowhere()
    x_pm2_control_block: GenericAddress = _nowhere()
    x_pm_timer_block: GenericAddress = _nowhere()
    x_gpe0_block: GenericAddress = _nowhere()
    x_gpe1_block: GenericAddress = _nowhere()
    sleep_control: GenericAddress
    sleep_status: GenericAddress
    hypervisor_vendor: U64 = 0


class MadtHead(Struct):
    """Multiple APIC description table, without its entries."""

    header: TableHeader
    local_apic_address: U32
    flags: U32 = 0


class MadtType(IntEnum):
    """Types of MADT entries."""

    LOCAL_APIC = 0
    IO_APIC = 1
    LOCAL_X2APIC = 9


MADT_ENABLED = 1


class MadtLocalApic(Struct):
    """A processor whose APIC id fits 8 bits (255 is a broadcast)."""

    type: U8 = MadtType.LOCAL_APIC
    length: U8 = 8
    processor_uid: U8
    apic_id: U8
    flags: U32 = MADT_ENABLED


class MadtIoApic(Struct):
    """An I/O APIC."""

    type: U8 = MadtType.IO_APIC
    length: U8 = 12
    id: U8
    reserved: U8 = 0
    address: U32
    first_interrupt: U32 = 0


class MadtLocalX2Apic(Struct):
    """A processor whose APIC id does not fit 8 bits."""

    type: U8 = MadtType.LOCAL_X2APIC
    length: U8 = 16
    reserved: U16 = 0
    apic_id: U32
    flags: U32 = MADT_ENABLED
    processor_uid: U32


# Resource descriptors.

TAG_END = 0x79
TAG_DWORD_ADDRESS = 0x87
TAG_QWORD_ADDRESS = 0x8A
DESCRIPTOR_HEAD = 3
"""Tag and length of a large descriptor, which its length does not count."""


class IoDescriptor(Struct):
    """I/O port descriptor; `decode` 1 is 16 bits."""

    tag: U8 = 0x47
    decode: U8 = 1
    minimum: U16
    maximum: U16
    alignment: U8
    length: U8


class IrqDescriptor(Struct):
    """IRQ descriptor without its optional flags byte: one bit for each of IRQ 0 to 15."""

    tag: U8 = 0x22
    mask: U16


class IrqFlag(IntEnum):
    """Flags of an IRQ descriptor."""

    EDGE = 1
    ACTIVE_LOW = 8
    SHARED = 16


class IrqFlagsDescriptor(Struct):
    """IRQ descriptor with its flags byte."""

    tag: U8 = 0x23
    mask: U16
    flags: U8


class Memory32FixedDescriptor(Struct):
    """32-bit fixed memory range."""

    tag: U8 = 0x86
    descriptor_length: U16 = 9
    writable: U8
    base: U32
    length: U32


class ExtendedIrqFlag(IntEnum):
    """Flags of an extended interrupt descriptor."""

    CONSUMER = 1
    EDGE = 2
    ACTIVE_LOW = 4
    SHARED = 8


class ExtendedIrqDescriptor(Struct):
    """Extended interrupt descriptor; `count` 32-bit numbers follow."""

    tag: U8 = 0x89
    length: U16
    flags: U8
    count: U8


class AddressTypeFlag(IntEnum):
    """General flags of an address space descriptor; bit 0 clear is a producer, bit 1 clear decodes."""

    MIN_FIXED = 4
    MAX_FIXED = 8


ADDRESS_MEMORY = 0
MEMORY_READ_WRITE = 1


class AddressSpaceHead(Struct):
    """The common head of address space descriptors; `length` leaves out tag and itself."""

    tag: U8
    length: U16
    resource_type: U8 = ADDRESS_MEMORY
    flags: U8
    type_flags: U8 = MEMORY_READ_WRITE


class DWordAddress(Struct):
    """32-bit address space descriptor."""

    head: AddressSpaceHead
    granularity: U32 = 0
    minimum: U32
    maximum: U32
    translation: U32 = 0
    length: U32


class QWordAddress(Struct):
    """64-bit address space descriptor."""

    head: AddressSpaceHead
    granularity: U64 = 0
    minimum: U64
    maximum: U64
    translation: U64 = 0
    length: U64
