"""The table of commands: complete, consistent, and good for showing what a guest sends."""

from __future__ import annotations

import pytest

from ringminus.devices.storage import cdb_wire, mmc_wire
from ringminus.devices.storage.commands import BY_OPCODE, COMMANDS, HOT, Command, cdb_usage, decode
from ringminus.devices.storage.scsi_wire import DeviceType
from ringminus.wire import Struct
from support import cdb
from support.storage import Guest

LENGTHS = {0: 6, 1: 10, 2: 10, 4: 16, 5: 12}  # of a CDB, by the high three bits of its opcode


def test_every_structure_is_a_commands_and_is_as_long_as_its_opcode_says() -> None:
    declared = {
        value
        for module in (cdb_wire, mmc_wire)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Struct) and "opcode" in value.__annotations__
    }
    assert declared == {command.structure for command in COMMANDS}
    for command in COMMANDS:
        assert LENGTHS[command.opcode >> 5] == command.structure.SIZE, command.name
        assert command.structure.FIELDS[-1].name == "control"


def test_no_command_is_there_twice() -> None:
    for kind in (DeviceType.DISK, DeviceType.DVD):
        keys = [(c.opcode, c.service_action) for c in COMMANDS if kind in c.types]
        assert len(keys) == len(set(keys))
        for family in BY_OPCODE[kind].values():
            assert None not in family or len(family) == 1


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_usage_data_marks_what_we_look_at(command: Command) -> None:
    usage = cdb_usage(command)
    assert len(usage) == command.structure.SIZE and usage[0] == command.opcode
    masks = getattr(command.structure, "MASKS", {})
    assert set(masks) <= {field.name for field in command.structure.FIELDS}


def test_the_fast_way_knows_reads_and_writes_only() -> None:
    assert set(HOT[DeviceType.DISK]) == {0x28, 0x2A, 0x88, 0x8A, 0xA8, 0xAA}
    assert set(HOT[DeviceType.DVD]) == {0x28, 0xA8}


@pytest.mark.parametrize(
    ("make", "structure"),
    [
        (cdb.read10, cdb_wire.ReadWrite10),
        (cdb.read12, cdb_wire.ReadWrite12),
        (cdb.read16, cdb_wire.ReadWrite16),
    ],
)
def test_the_fast_way_reads_a_cdb_as_its_structure_does(make: object, structure: type[Struct]) -> None:
    assert callable(make)
    data = make(0x01020304, 0x506, 0x18)
    fast = HOT[DeviceType.DISK][data[0]].decode(data, 1)
    slow = structure.unpack(data)
    assert fast == (slow.flags, slow.lba, slow.transfer_length)  # type: ignore[attr-defined]


def test_tools_can_name_a_command() -> None:
    name, fields = decode(DeviceType.DISK, cdb.read10(0x1234, 8))
    assert name == "READ(10)" and "lba=0x1234" in repr(fields)
    assert decode(DeviceType.DISK, cdb.read_capacity16())[0] == "READ CAPACITY(16)"
    assert decode(DeviceType.DISK, cdb.report_luns())[0] == "REPORT LUNS"
    assert decode(DeviceType.DISK, bytes((0x85, 6))) == ("opcode 0x85", None)
    assert decode(DeviceType.DISK, b"") == ("TEST UNIT READY", cdb_wire.Cdb6.unpack(bytes(6)))


def test_all_commands_are_reported(guest: Guest) -> None:
    data = guest.read(cdb.supported_opcodes(), 4096)
    assert len(data) == 4 + int.from_bytes(data[:4], "big")
    entries = [data[at : at + 8] for at in range(4, len(data), 8)]
    reported = {(e[0], int.from_bytes(e[2:4], "big") if e[5] else None, e[7]) for e in entries}
    expected = {
        (c.opcode, c.service_action, c.structure.SIZE) for c in COMMANDS if DeviceType.DISK in c.types
    }
    assert reported == expected and len(entries) == len(expected)


@pytest.mark.parametrize(
    ("option", "opcode", "action", "usage"),
    [
        (1, 0x28, 0, "28f8ffffffff00ffff00"),
        (2, 0x9E, 0x10, "9e100000000000000000ffffffff0000"),
        (3, 0x28, 0, "28f8ffffffff00ffff00"),
        (3, 0x9E, 0x10, "9e100000000000000000ffffffff0000"),
    ],
)
def test_one_command_is_reported(guest: Guest, option: int, opcode: int, action: int, usage: str) -> None:
    data = guest.read(cdb.supported_opcodes(option, opcode, action), 4096)
    assert data[:2] == b"\0\3" and data[2:4] == (len(usage) // 2).to_bytes(2, "big")
    assert data[4:].hex() == usage


@pytest.mark.parametrize(("option", "opcode", "action"), [(1, 0x5E, 0), (3, 0x9E, 0x11), (2, 0x85, 0)])
def test_what_we_do_not_know_is_reported_so(guest: Guest, option: int, opcode: int, action: int) -> None:
    assert guest.read(cdb.supported_opcodes(option, opcode, action), 4096) == bytes((0, 1, 0, 0))


@pytest.mark.parametrize(("option", "opcode"), [(1, 0x9E), (2, 0x28), (4, 0x28), (7, 0)])
def test_the_wrong_question_is_refused(guest: Guest, option: int, opcode: int) -> None:
    assert guest.command(cdb.supported_opcodes(option, opcode), 4096).sense == (5, 0x24, 0)
