"""Storage's messages, declared for who shows them: vmstor, and SCSI from the table of commands."""

from __future__ import annotations

import re
from enum import IntEnum

from ringminus.devices.storage.commands import COMMANDS, Command
from ringminus.devices.storage.ide import IdeDisk
from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.scsi_wire import FixedSense
from ringminus.devices.storage.sense import SenseKey
from ringminus.devices.storage.wire import (
    SENSE_SIZE,
    ChannelProperties,
    Direction,
    NtStatus,
    Operation,
    ProtocolVersion,
    ScsiStatus,
    SrbFlags,
    SrbStatus,
    SubChannelCount,
    VmscsiAnswer,
    VmscsiRequest,
    VstorHeader,
    VstorPacket,
)
from ringminus.protocol import Form, Protocol, declare
from ringminus.wire import U8, Struct


class Opcode(Struct):
    """The first byte of every command descriptor block."""

    op: U8


class SenseCode(Struct):
    """The first byte of sense data."""

    code: U8


def _identifier(name: str) -> str:
    """READ(10) as READ_10."""
    return re.sub(r"\W+", "_", name).strip("_")


OPCODES = IntEnum("Opcodes", {_identifier(one.name): one.opcode for one in COMMANDS})  # type: ignore[misc]


def _form(command: Command) -> Form:
    action = {} if command.service_action is None else {"service_action": command.service_action}
    return Form(_identifier(command.name), command.structure, whole=True, when=action)


def _forms(opcode: int) -> tuple[Form, ...]:
    found = {one.service_action: _form(one) for one in COMMANDS if one.opcode == opcode}
    return tuple(found.values())


SCSI = declare(
    Protocol(
        "scsi",
        "SCSI command",
        Opcode,
        "op",
        {one.opcode: _forms(one.opcode) for one in COMMANDS},
        {"op": OPCODES, "opcode": OPCODES},
    )
)
SENSE = declare(
    Protocol(
        "scsi_sense",
        "SCSI sense data",
        SenseCode,
        "code",
        {
            0: Form("NONE"),
            **{code: Form("FIXED", FixedSense, whole=True) for code in (0x70, 0x71, 0xF0, 0xF1)},
        },
        {"sense_key": SenseKey},
        padded=SENSE_SIZE,
    )
)

_OPERATIONS: dict[Operation, type[Struct] | None] = {
    Operation.QUERY_PROTOCOL_VERSION: ProtocolVersion,
    Operation.QUERY_PROPERTIES: ChannelProperties,
    Operation.CREATE_SUB_CHANNELS: SubChannelCount,
}
_SRB = (Operation.EXECUTE_SRB, Operation.RESET_LUN, Operation.RESET_BUS, Operation.RESET_ADAPTER)

VSTOR = declare(
    Protocol(
        "vstor",
        "vmstor",
        VstorHeader,
        "operation",
        {
            **{one: Form(one.name, _OPERATIONS.get(one)) for one in Operation},
            **{
                one: Form(one.name, VmscsiRequest, inner={"cdb": "scsi"}, lengths={"cdb": "cdb_length"})
                for one in _SRB[:1]
            },
            **{one: Form(one.name, VmscsiRequest) for one in _SRB[1:]},
            Operation.COMPLETE_IO: (
                Form(
                    "COMPLETE_IO",
                    VmscsiAnswer,
                    answers=Operation.EXECUTE_SRB.name,
                    inner={"sense_data": "scsi_sense"},
                    lengths={"sense_data": "sense_info_length"},
                ),
                *(
                    Form("COMPLETE_IO", structure, answers=operation.name)
                    for operation, structure in _OPERATIONS.items()
                ),
                Form("COMPLETE_IO"),
            ),
        },
        {
            "operation": Operation,
            "status": NtStatus,
            "srb_status": SrbStatus,
            "scsi_status": ScsiStatus,
            "data_in": Direction,
            "srb_flags": SrbFlags,
        },
        (ScsiController.interface, IdeDisk.interface),
        padded=VstorPacket.SIZE,
    )
)
