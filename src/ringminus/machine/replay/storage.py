"""What a recording tells of a storage adapter's units, and adapters that are made from it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID, uuid5

from ringminus.devices.storage.adapter import AFTER_OPCODE, MINIMUM_SRB, StorageAdapter
from ringminus.devices.storage.cdb_wire import Inquiry
from ringminus.devices.storage.commands import HOT
from ringminus.devices.storage.ide import IdeDisk
from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.scsi_wire import (
    BlockLimits,
    Capacity10,
    Capacity16,
    DeviceType,
    VpdHeader,
)
from ringminus.devices.storage.wire import (
    HOT_REQUEST,
    Direction,
    Operation,
    SrbStatus,
    VmscsiRequest,
    VstorPacket,
)
from ringminus.disks.disk import Disk
from ringminus.errors import ConfigError
from ringminus.machine.config import DiskConfig
from ringminus.machine.replay.overlay import Overlay, RecordedDisk
from ringminus.machine.replay.recording import RecordedDevice
from ringminus.tap import RingPacket
from ringminus.vmbus.device import INSTANCES, Packet
from ringminus.vmbus.wire import PacketType
from ringminus.wire import ShortBuffer

COMPLETION = int(PacketType.COMPLETION)
READ_CAPACITY_10, SERVICE_ACTION_IN, INQUIRY, TEST_UNIT_READY = 0x25, 0x9E, 0x12, 0x00
READ_CAPACITY_16 = 0x10  # its service action
SERIAL, DESIGNATORS, LIMITS = 0x80, 0x83, 0xB0
SECTORS = (512, 2048, 4096)
MOST_BLOCKS = 1 << 16
LARGEST = 1 << 46
"""Bytes of a disk that is believed."""


class Exchange(NamedTuple):
    """A SCSI command of a recording, and its completion."""

    request: RingPacket
    srb: VmscsiRequest
    answer: RingPacket | None
    result: VmscsiRequest | None

    @property
    def succeeded(self) -> bool:
        return self.result is not None and self.result.srb_status & 0x3F == SrbStatus.SUCCESS

    @property
    def brought(self) -> bytes:
        """The data that the command gave, as far as it was recorded."""
        if self.answer is None or self.result is None or self.srb.data_in != Direction.IN:
            return b""
        return (self.answer.data or self.request.data)[: self.result.data_transfer_length]


@dataclass(slots=True)
class RecordedUnit:
    """What is known of what is at a LUN."""

    type: DeviceType | None = None
    blocks: int = 0
    block_size: int = 0
    exponents: int = 0
    unmaps: bool | None = None
    granularity: int = 0
    identity: UUID | None = None
    sectors: dict[int, bytes] = field(default_factory=dict)
    """What sectors held before anybody wrote to them."""
    written: set[int] = field(default_factory=set)
    answers: bool = False
    """Whether something is there."""


def exchanges(recorded: RecordedDevice) -> Iterator[Exchange]:
    """The SCSI commands of a recording in the order of the requests."""
    answers = {
        one.cause: one for one in recorded.packets if one.to_guest and one.kind == COMPLETION and one.cause
    }
    for packet in recorded.packets:
        if packet.to_guest or len(packet.payload) < MINIMUM_SRB:
            continue
        vstor = VstorPacket.unpack(packet.payload.ljust(VstorPacket.SIZE, b"\0"))
        if vstor.operation != Operation.EXECUTE_SRB:
            continue
        answer, result = answers.get(packet.sequence), None
        if answer is not None and len(answer.payload) >= MINIMUM_SRB:
            body = VstorPacket.unpack(answer.payload.ljust(VstorPacket.SIZE, b"\0")).body
            result = VmscsiRequest.unpack(body)
        yield Exchange(packet, VmscsiRequest.unpack(vstor.body), answer, result)


def units_of(recorded: RecordedDevice) -> dict[int, RecordedUnit]:
    """What a recording tells of the units, by LUN."""
    found: dict[int, RecordedUnit] = {}
    for one in exchanges(recorded):
        unit = found.setdefault(one.srb.lun, RecordedUnit())
        try:
            _learn(unit, one)
        except (ShortBuffer, struct.error):
            continue  # the recording has less than the whole
    return {lun: unit for lun, unit in found.items() if unit.answers}


def _learn(unit: RecordedUnit, one: Exchange) -> None:
    opcode, data = one.srb.cdb[0], one.brought
    hot = HOT[DeviceType.DISK].get(opcode)
    if hot is not None:
        _, lba, blocks = hot.decode(one.request.payload, AFTER_OPCODE)
        if hot.writes:
            unit.written.update(
                range(lba, lba + min(blocks, one.srb.data_transfer_length // 512, MOST_BLOCKS))
            )
        elif one.succeeded:
            _learn_sectors(unit, lba, blocks, data)
    elif not one.succeeded:
        return
    elif opcode == READ_CAPACITY_10:
        capacity = Capacity10.unpack(data)
        unit.answers = True
        unit.block_size = capacity.block_length
        unit.blocks = max(unit.blocks, capacity.last_lba + 1)
    elif opcode == SERVICE_ACTION_IN and one.srb.cdb[1] & 0x1F == READ_CAPACITY_16:
        large = Capacity16.unpack(data)
        unit.answers = True
        unit.blocks, unit.block_size = large.last_lba + 1, large.block_length
        unit.exponents, unit.unmaps = large.exponents & 0xF, bool(large.provisioning & Capacity16.LBPME)
    elif opcode == INQUIRY:
        _learn_identity(unit, Inquiry.unpack(one.srb.cdb), data)


def _learn_sectors(unit: RecordedUnit, lba: int, blocks: int, data: bytes) -> None:
    size = len(data) // blocks if blocks else 0
    if size not in SECTORS:
        return
    for index in range(blocks):
        if lba + index not in unit.written:
            unit.sectors.setdefault(lba + index, data[index * size : (index + 1) * size])


def _learn_identity(unit: RecordedUnit, cdb: Inquiry, data: bytes) -> None:
    header = VpdHeader.unpack(data)
    if header.peripheral >> 5:
        return  # there is nothing
    kind = header.peripheral & 0x1F
    if kind in (DeviceType.DISK, DeviceType.DVD):
        unit.type, unit.answers = DeviceType(kind), True
    if not cdb.flags & Inquiry.EVPD:
        return
    body = data[VpdHeader.SIZE : VpdHeader.SIZE + header.page_length]
    if header.page_code == SERIAL and len(body) == 32:
        try:
            unit.identity = UUID(hex=body.decode("ascii"))
        except ValueError:
            return
    elif header.page_code == LIMITS:
        unit.granularity = BlockLimits.unpack(body).optimal_unmap_granularity


def rebuilt(unit: RecordedUnit, recorded: RecordedDevice, lun: int) -> RecordedDisk | None:
    """The unit's disk as far as it is known; None if its size is not."""
    size = unit.blocks * unit.block_size
    if unit.block_size not in SECTORS or not 0 < size <= LARGEST:
        return None
    identity = unit.identity or uuid5(INSTANCES, f"{recorded.instance} {lun}")
    disk = RecordedDisk(size, unit.block_size, identity)
    disk.physical_sector_size = unit.block_size << unit.exponents
    if unit.unmaps:
        disk.provision(max(unit.granularity, 1) * unit.block_size)
    disk.sectors = {
        number: data
        for number, data in unit.sectors.items()
        if number < unit.blocks and len(data) == unit.block_size
    }
    return disk


def build(recorded: RecordedDevice, configs: Sequence[DiskConfig]) -> tuple[StorageAdapter, list[Disk]]:
    """An adapter as the recorded one: on the given disks, of which nothing is changed, else on those that the
    recording tells of. Raises `ConfigError` and `DiskError`."""
    units = units_of(recorded)
    is_ide = recorded.interface == IdeDisk.interface
    disks: list[Disk] = []
    try:
        placed = _opened(configs, units, disks) if configs else _rebuilt(recorded, units)
        if is_ide:
            path, target = recorded.instance.fields[:2]
            disk = placed.get(0)
            if disk is None or path > 1 or target > 1:
                raise ConfigError(
                    f"{recorded.title} is no IDE disk that can be made again: name it with --disk"
                )
            return IdeDisk(path, target, disk), disks
        controller = ScsiController(recorded.instance)
        for lun, unit in sorted(units.items()):
            if unit.type is DeviceType.DVD and lun not in placed:
                controller.attach_dvd(lun)
        for lun, disk in placed.items():
            if lun in units and units[lun].type is DeviceType.DVD:
                controller.attach_dvd(lun, disk)
            else:
                controller.attach_disk(lun, disk)
        return controller, disks
    except BaseException:
        for disk in disks:
            disk.close()
        raise


def _opened(
    configs: Sequence[DiskConfig], units: dict[int, RecordedUnit], disks: list[Disk]
) -> dict[int, Disk]:
    """The disks that a person named, by LUN."""
    from ringminus.disks.open import open_disk

    placed: dict[int, Disk] = {}
    for config in sorted(configs, key=lambda one: one.place is None):
        lun = config.place
        if lun is None:
            lun = next(number for number in range(len(placed) + 1) if number not in placed)
        if lun in placed:
            raise ConfigError(f"{config.path}: LUN {lun} has a disk already: say lun=N")
        if config.path is None:
            continue
        base = open_disk(config.path, config.format, True, config.sector_size)
        known = units.get(lun, RecordedUnit())
        disk = Overlay(base, read_only=config.read_only, unmaps=known.unmaps is not False)
        disk.identity = known.identity or base.identity  # a copy of the disk has another name
        disks.append(disk)
        placed[lun] = disk
    return placed


def _rebuilt(recorded: RecordedDevice, units: dict[int, RecordedUnit]) -> dict[int, Disk]:
    """The disks that the recording tells of, by LUN."""
    if not recorded.has_data and recorded.names_memory:
        raise ConfigError(
            f"the recording does not hold what {recorded.title} read: name its disk with --disk FILE, "
            "or record with ringminus run --capture FILE,data"
        )
    placed: dict[int, Disk] = {}
    for lun, unit in units.items():
        disk = rebuilt(unit, recorded, lun)
        if disk is not None:
            placed[lun] = disk
    return placed


def reads_what_was_written(adapter: StorageAdapter, packet: Packet) -> bool:
    """Whether a packet reads sectors that the guest has written before."""
    try:
        operation, _, lun, _, _, opcode = HOT_REQUEST.unpack_from(packet.payload)
        unit, hot = adapter.units.get(lun), HOT[DeviceType.DISK].get(opcode)
        if operation != Operation.EXECUTE_SRB or unit is None or hot is None or hot.writes:
            return False
        _, lba, blocks = hot.decode(packet.payload, AFTER_OPCODE)
    except struct.error:
        return False
    disk = unit.disk
    if not isinstance(disk, Overlay) or blocks > MOST_BLOCKS:
        return False
    return not disk.written.isdisjoint(range(lba, lba + blocks))
