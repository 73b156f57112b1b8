"""INQUIRY and the vital product data of units (SPC-4, SBC-3), as Hyper-V's disks answer them."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from ringminus.devices.storage.cdb_wire import Inquiry
from ringminus.devices.storage.provisioning import MAX_UNMAP_DESCRIPTORS, MAX_WRITE_SAME
from ringminus.devices.storage.request import Answer, Request
from ringminus.devices.storage.scsi_wire import (
    BlockDeviceCharacteristics,
    BlockLimits,
    DesignatorHeader,
    DeviceType,
    InquiryData,
    LogicalBlockProvisioning,
    VpdHeader,
)
from ringminus.devices.storage.sense import INVALID_FIELD_IN_CDB, CheckCondition
from ringminus.devices.storage.unit import Unit
from ringminus.devices.storage.wire import MAX_TRANSFER

VENDOR = b"Msft    "
PRODUCTS = {DeviceType.DISK: b"Virtual Disk    ", DeviceType.DVD: b"Virtual DVD-ROM "}
REVISION = b"1.0 "
REMOVABLE, COMMAND_QUEUE = 0x80, 0x02
ABSENT = 0x7F  # peripheral qualifier 3: no unit can be here
BINARY, T10_VENDOR_ID, NAA = 1, 1, 3
NAA_MICROSOFT = bytes.fromhex("60022480")  # NAA 6 and the company's id 00-22-48
UNMAP_ALIGNMENT_VALID = 1 << 31


def inquiry(unit: Unit, request: Request, cdb: Inquiry) -> Answer:
    if cdb.flags & ~Inquiry.EVPD or (cdb.page_code and not cdb.flags):
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    if not cdb.flags:
        return _standard(unit)[: cdb.allocation_length]
    pages = PAGES[unit.type]
    if cdb.page_code not in pages or (cdb.page_code == 0xB2 and not unit.medium().can_unmap):
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    body = pages[cdb.page_code](unit)
    header = VpdHeader(peripheral=unit.type, page_code=cdb.page_code, page_length=len(body))
    return (header.pack() + body)[: cdb.allocation_length]


def _standard(unit: Unit) -> bytes:
    return InquiryData(
        peripheral=unit.type,
        removable=REMOVABLE if unit.removable else 0,
        flags7=COMMAND_QUEUE,
        vendor=VENDOR,
        product=PRODUCTS[unit.type],
        revision=REVISION,
    ).pack()


def absent(lun: int, cdb: Inquiry) -> bytes:
    """INQUIRY data where no unit is, as Hyper-V gives it (OpenVMM's storvsp): only LUN 0 has names. This
    keeps a guest's scan short: Linux takes any other answer for a disk, or asks three times."""
    if cdb.flags or cdb.page_code:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    named = lun == 0
    data = InquiryData(
        peripheral=ABSENT,
        vendor=VENDOR if named else b"",
        product=PRODUCTS[DeviceType.DISK] if named else b"",
        revision=REVISION if named else b"",
    )
    return data.pack()[: cdb.allocation_length]


def naa_of(identity: UUID) -> bytes:
    """The NAA name of a disk with that identity, made as Hyper-V makes it."""
    raw = identity.bytes_le
    return NAA_MICROSOFT + raw[:6] + raw[10:]


def _supported(unit: Unit) -> bytes:
    return bytes(
        page
        for page in sorted(PAGES[unit.type])
        if page != 0xB2 or (unit.disk is not None and unit.disk.can_unmap)
    )


def _serial(unit: Unit) -> bytes:
    return unit.identity.hex.upper().encode("ascii")


def _designators(unit: Unit) -> bytes:
    vendor, naa = VENDOR + unit.identity.bytes_le, naa_of(unit.identity)
    return b"".join(
        DesignatorHeader(code_set=BINARY, type=kind, length=len(name)).pack() + name
        for kind, name in ((T10_VENDOR_ID, vendor), (NAA, naa))
    )


def _limits(unit: Unit) -> bytes:
    disk = unit.medium()
    limits = BlockLimits(
        wsnz=1,
        maximum_transfer_length=MAX_TRANSFER >> unit.shift,
        maximum_write_same_length=MAX_WRITE_SAME >> unit.shift,
    )
    if disk.can_unmap:
        limits.maximum_unmap_lba_count = 0xFFFF_FFFF
        limits.maximum_unmap_block_descriptor_count = MAX_UNMAP_DESCRIPTORS
        limits.optimal_unmap_granularity = disk.unmap_granularity >> unit.shift
        limits.unmap_granularity_alignment = UNMAP_ALIGNMENT_VALID
    return limits.pack()


def _characteristics(unit: Unit) -> bytes:
    return BlockDeviceCharacteristics(medium_rotation_rate=1).pack()


def _provisioning(unit: Unit) -> bytes:
    page = LogicalBlockProvisioning
    flags = page.LBPU | page.LBPWS | page.LBPWS10 | page.LBPRZ
    return page(threshold_exponent=0, flags=flags, provisioning_type=page.THIN).pack()


Page = Callable[[Unit], bytes]
_COMMON: dict[int, Page] = {0x00: _supported, 0x80: _serial, 0x83: _designators}
PAGES: dict[DeviceType, dict[int, Page]] = {
    DeviceType.DISK: {**_COMMON, 0xB0: _limits, 0xB1: _characteristics, 0xB2: _provisioning},
    DeviceType.DVD: _COMMON,
}
