"""The table of SCSI commands, and what runs a command from it.

A command that is not in the table is refused with 5/20/00: reservations, ATA pass-through, and all that these
units do not have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ringminus.devices.storage import (
    block,
    cdb_wire,
    diagnose,
    identify,
    mmc_wire,
    mode,
    multimedia,
    provisioning,
)
from ringminus.devices.storage.request import Answer, Request
from ringminus.devices.storage.scsi_wire import (
    DeviceType,
    OneSupportedOpcode,
    SupportedOpcode,
    SupportedOpcodesHeader,
)
from ringminus.devices.storage.sense import INVALID_FIELD_IN_CDB, INVALID_OPCODE, CheckCondition
from ringminus.devices.storage.unit import HotCommand, Unit
from ringminus.devices.storage.wire import CDB_SIZE, Direction
from ringminus.wire import Struct

Handler = Callable[[Any, Request, Any], Answer]
DISK = frozenset({DeviceType.DISK})
DVD = frozenset({DeviceType.DVD})
ALL = DISK | DVD
INQUIRY, REPORT_LUNS = 0x12, 0xA0  # these are also answered where no unit is
IN, OUT, NONE = Direction.IN, Direction.OUT, Direction.NONE


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its opcode and service action (None where it has none), the structure of its CDB, the way
    of its data, what answers it (None: the adapter, where no unit is, too), and the types of units that know
    it. `polite` commands are answered even if the guest has to be told of a unit attention first."""

    opcode: int
    service_action: int | None
    name: str
    structure: type[Struct]
    direction: Direction
    handler: Handler | None
    types: frozenset[DeviceType] = ALL
    polite: bool = False


def _report_supported_operation_codes(
    unit: Unit, request: Request, cdb: cdb_wire.ReportSupportedOperationCodes
) -> Answer:
    """All commands of the unit's type, or one of them with its CDB usage data. No timeouts are told."""
    option = cdb.options & 7
    if option == 0:
        listed = b"".join(_listed(command) for command in COMMANDS if unit.type in command.types)
        return (SupportedOpcodesHeader(command_data_length=len(listed)).pack() + listed)[
            : cdb.allocation_length
        ]
    if option > 3:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    family = BY_OPCODE[unit.type].get(cdb.requested_opcode, {})
    by_action = family != {} and None not in family
    if option != 3 and family and by_action != (option == 2):
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    command = family.get(cdb.requested_service_action if by_action else None)
    usage = b"" if command is None else cdb_usage(command)
    support = OneSupportedOpcode.UNSUPPORTED if command is None else OneSupportedOpcode.SUPPORTED
    answer = OneSupportedOpcode(support=support, cdb_size=len(usage)).pack() + usage
    return answer[: cdb.allocation_length]


def _listed(command: Command) -> bytes:
    action = command.service_action
    return SupportedOpcode(
        opcode=command.opcode,
        service_action=action or 0,
        flags=0 if action is None else SupportedOpcode.SERVACTV,
        cdb_length=command.structure.SIZE,
    ).pack()


def cdb_usage(command: Command) -> bytes:
    """CDB usage data: the opcode and service action, and ones where we look at the guest's bits."""
    masks = getattr(command.structure, "MASKS", {})
    usage = bytearray()
    for field in command.structure.FIELDS:
        ignored = field.name.startswith("reserved") or field.name == "control"
        mask = masks.get(field.name, 0 if ignored else 0xFF)
        usage += bytes([mask]) * field.size
    usage[0] = command.opcode
    if command.service_action is not None:
        usage[1] = command.service_action
    return bytes(usage)


# MODE SENSE is polite, too, because Linux's storvsc takes every answer to it for success (as with INQUIRY): a
# unit attention in its place would be lost, and the page as well.
COMMANDS: tuple[Command, ...] = (
    Command(0x00, None, "TEST UNIT READY", cdb_wire.Cdb6, NONE, diagnose.test_unit_ready),
    Command(0x03, None, "REQUEST SENSE", cdb_wire.RequestSense, IN, diagnose.request_sense, polite=True),
    Command(0x08, None, "READ(6)", cdb_wire.ReadWrite6, IN, block.read6, DISK),
    Command(0x0A, None, "WRITE(6)", cdb_wire.ReadWrite6, OUT, block.write6, DISK),
    Command(INQUIRY, None, "INQUIRY", cdb_wire.Inquiry, IN, identify.inquiry, polite=True),
    Command(0x15, None, "MODE SELECT(6)", cdb_wire.ModeSelect6, OUT, mode.mode_select, DISK),
    Command(0x1A, None, "MODE SENSE(6)", cdb_wire.ModeSense6, IN, mode.mode_sense6, polite=True),
    Command(0x1B, None, "START STOP UNIT", cdb_wire.StartStopUnit, NONE, block.start_stop, DISK),
    Command(0x1B, None, "START STOP UNIT", cdb_wire.StartStopUnit, NONE, multimedia.start_stop, DVD),
    Command(
        0x1E,
        None,
        "PREVENT ALLOW MEDIUM REMOVAL",
        cdb_wire.PreventAllowMediumRemoval,
        NONE,
        multimedia.prevent_allow,
        DVD,
    ),
    Command(0x25, None, "READ CAPACITY(10)", cdb_wire.ReadCapacity10, IN, block.read_capacity10),
    Command(0x28, None, "READ(10)", cdb_wire.ReadWrite10, IN, block.read_blocks),
    Command(0x2A, None, "WRITE(10)", cdb_wire.ReadWrite10, OUT, block.write_blocks, DISK),
    Command(0x2F, None, "VERIFY(10)", cdb_wire.Verify10, OUT, block.verify, DISK),
    Command(
        0x35, None, "SYNCHRONIZE CACHE(10)", cdb_wire.SynchronizeCache10, NONE, block.synchronize_cache, DISK
    ),
    Command(0x41, None, "WRITE SAME(10)", cdb_wire.WriteSame10, OUT, provisioning.write_same, DISK),
    Command(0x42, None, "UNMAP", cdb_wire.Unmap, OUT, provisioning.unmap, DISK),
    Command(0x43, None, "READ TOC/PMA/ATIP", mmc_wire.ReadToc, IN, multimedia.read_toc, DVD),
    Command(
        0x46,
        None,
        "GET CONFIGURATION",
        mmc_wire.GetConfiguration,
        IN,
        multimedia.get_configuration,
        DVD,
        polite=True,
    ),
    Command(
        0x4A,
        None,
        "GET EVENT STATUS NOTIFICATION",
        mmc_wire.GetEventStatusNotification,
        IN,
        multimedia.get_event_status,
        DVD,
        polite=True,
    ),
    Command(0x4D, None, "LOG SENSE", cdb_wire.LogSense, IN, diagnose.log_sense),
    Command(
        0x51,
        None,
        "READ DISC INFORMATION",
        mmc_wire.ReadDiscInformation,
        IN,
        multimedia.read_disc_information,
        DVD,
    ),
    Command(
        0x52,
        None,
        "READ TRACK INFORMATION",
        mmc_wire.ReadTrackInformation,
        IN,
        multimedia.read_track_information,
        DVD,
    ),
    Command(0x55, None, "MODE SELECT(10)", cdb_wire.ModeSelect10, OUT, mode.mode_select, DISK),
    Command(0x5A, None, "MODE SENSE(10)", cdb_wire.ModeSense10, IN, mode.mode_sense10, polite=True),
    Command(0x88, None, "READ(16)", cdb_wire.ReadWrite16, IN, block.read_blocks, DISK),
    Command(0x8A, None, "WRITE(16)", cdb_wire.ReadWrite16, OUT, block.write_blocks, DISK),
    Command(0x8F, None, "VERIFY(16)", cdb_wire.Verify16, OUT, block.verify, DISK),
    Command(
        0x91, None, "SYNCHRONIZE CACHE(16)", cdb_wire.SynchronizeCache16, NONE, block.synchronize_cache, DISK
    ),
    Command(0x93, None, "WRITE SAME(16)", cdb_wire.WriteSame16, OUT, provisioning.write_same, DISK),
    Command(0x9E, 0x10, "READ CAPACITY(16)", cdb_wire.ReadCapacity16, IN, block.read_capacity16, DISK),
    Command(0x9E, 0x12, "GET LBA STATUS", cdb_wire.GetLbaStatus, IN, provisioning.get_lba_status, DISK),
    Command(REPORT_LUNS, None, "REPORT LUNS", cdb_wire.ReportLuns, IN, None),
    Command(
        0xA3,
        0x0C,
        "REPORT SUPPORTED OPERATION CODES",
        cdb_wire.ReportSupportedOperationCodes,
        IN,
        _report_supported_operation_codes,
    ),
    Command(0xA8, None, "READ(12)", cdb_wire.ReadWrite12, IN, block.read_blocks),
    Command(0xAA, None, "WRITE(12)", cdb_wire.ReadWrite12, OUT, block.write_blocks, DISK),
    Command(0xAF, None, "VERIFY(12)", cdb_wire.Verify12, OUT, block.verify, DISK),
)
BY_OPCODE: dict[DeviceType, dict[int, dict[int | None, Command]]] = {}
for _command in COMMANDS:
    for _type in _command.types:
        _family = BY_OPCODE.setdefault(_type, {}).setdefault(_command.opcode, {})
        _family[_command.service_action] = _command

# What `StorageAdapter.packet` does at once.
_CODECS = {
    cdb_wire.ReadWrite10: cdb_wire.HOT_READ_WRITE_10,
    cdb_wire.ReadWrite12: cdb_wire.HOT_READ_WRITE_12,
    cdb_wire.ReadWrite16: cdb_wire.HOT_READ_WRITE_16,
}


def _hot(command: Command) -> HotCommand:
    writes = command.handler is block.write_blocks
    unusual = cdb_wire.PROTECT | (cdb_wire.FUA if writes else 0)
    return HotCommand(_CODECS[command.structure].unpack_from, writes, int(command.direction), unusual)


HOT: dict[DeviceType, dict[int, HotCommand]] = {
    kind: {
        command.opcode: _hot(command)
        for command in COMMANDS
        if kind in command.types and command.handler in (block.read_blocks, block.write_blocks)
    }
    for kind in BY_OPCODE
}


def find(type: DeviceType, cdb: bytes) -> Command:
    """The command that `cdb` holds, for a unit of that type; raises `CheckCondition`."""
    family = BY_OPCODE[type].get(cdb[0])
    if family is None:
        raise CheckCondition(INVALID_OPCODE)
    command = family.get(None) or family.get(cdb[1] & cdb_wire.SERVICE_ACTION)
    if command is None:
        raise CheckCondition(INVALID_FIELD_IN_CDB)
    return command


def execute(unit: Unit, request: Request) -> Answer:
    """Begin a command; raises `CheckCondition`, `Overrun`, `DiskError`, and `BadRange` or
    `BadGuestAddress` for a buffer that is no memory."""
    command = find(unit.type, request.cdb)
    if unit.attention and not command.polite:
        attention = unit.take_attention()
        if attention is not None:
            raise CheckCondition(attention)
    assert command.handler is not None
    return command.handler(unit, request, command.structure.unpack(request.cdb))


def decode(type: DeviceType, cdb: bytes) -> tuple[str, Struct | None]:
    """For tools: the name of the command in a CDB of up to 16 bytes, and its fields."""
    padded = cdb.ljust(CDB_SIZE, b"\0")
    try:
        command = find(type, padded)
    except CheckCondition:
        return f"opcode {padded[0]:#04x}", None
    return command.name, command.structure.unpack(padded)
