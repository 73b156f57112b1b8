"""Messages in events whose fields can be set by name."""

from __future__ import annotations

import pytest

import ringminus.cli.protocols  # noqa: F401
from ringminus.changes import ChangeError
from ringminus.devices.storage.scsi import ScsiController
from ringminus.devices.storage.wire import Operation, VmscsiRequest, VstorPacket
from ringminus.lens.addons.message import Message
from ringminus.lens.decode import Decoder
from ringminus.tap import Event, Hypercall, MsrAccess, RingPacket

READ_10 = bytes.fromhex("2800000008000000200000000000")


def request(cdb: bytes = READ_10) -> RingPacket:
    srb = VmscsiRequest(cdb=cdb, cdb_length=10, data_in=1, data_transfer_length=4096)
    packet = VstorPacket(operation=Operation.EXECUTE_SRB, flags=1, status=0, body=srb.pack())
    return RingPacket(0, 0, 5, "SCSI 0", False, 9, 7, packet.pack(), (4096,), ScsiController.interface)


def message(event: Event) -> Message:
    return Message(event, Decoder())


def test_fields_are_read_by_name() -> None:
    found = message(request())
    assert found.protocols == ["vstor", "scsi"] and "scsi" in found and "nvsp" not in found
    assert (found.scsi.name, found.scsi.lba, found["scsi.transfer_length"]) == ("READ_10", 0x800, 0x20)
    assert found["vstor.cdb_length"] == 10
    assert [one.name for one in found] == ["EXECUTE_SRB", "READ_10"]
    assert repr(found) == "vstor EXECUTE_SRB | scsi READ_10"
    assert repr(found.scsi).startswith("scsi READ_10(opcode=READ_10")


def test_setting_a_field_changes_the_bytes_of_the_event() -> None:
    """Big-endian and within another message: all by the declarations."""
    event = request()
    before = event.payload
    found = message(event)
    found.scsi.lba = 0x12345678
    found["vstor.data_transfer_length"] = 512
    assert found.scsi.lba == 0x12345678
    changed = [place for place in range(len(before)) if before[place] != event.payload[place]]
    assert event.payload[30:34] == bytes.fromhex("12345678") and set(changed) >= {30, 31, 32, 33}
    srb = VmscsiRequest.unpack(VstorPacket.unpack(event.payload).body)
    assert srb.data_transfer_length == 512 and srb.cdb[2:6] == bytes.fromhex("12345678")


def test_another_selector_makes_it_another_message() -> None:
    event = request()
    found = message(event)
    found.scsi.opcode = "write_10"
    assert (found.scsi.name, found.scsi.lba) == ("WRITE_10", 0x800)
    found.vstor.operation = "reset_bus"
    assert found.protocols == ["vstor"]
    with pytest.raises(ChangeError, match="there is no scsi message here: messages here are vstor"):
        found.scsi.lba = 1


def test_bytes_are_padded_with_zeros() -> None:
    event = request()
    found = message(event)
    found.vstor.cdb = b"\x00\x01"
    assert found.vstor.cdb == b"\x00\x01" + bytes(18)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("scsi.lba", 1 << 32, "scsi.lba: lba has 4 bytes, which cannot hold 0x100000000"),
        ("scsi.lba", b"x", "lba is a number, not b'x'"),
        ("scsi.lbb", 1, "this message has no field lbb"),
        ("vstor.cdb", bytes(21), "cdb has 20 bytes, not 21"),
        ("vstor.srb_status", "very_good", "vstor.srb_status is never 'very_good': it is one of"),
        ("lba", 1, "'lba' names no field: write it as protocol.field"),
        ("nvsp.status", 1, "there is no nvsp message here"),
        ("nonsense.status", 1, "nonsense is no protocol at all"),
    ],
)
def test_what_cannot_be_set(name: str, value: object, words: str) -> None:
    event = request()
    before = event.payload
    with pytest.raises(ChangeError) as error:
        message(event)[name] = value
    assert words in str(error.value)
    assert event.payload == before


def test_a_field_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ChangeError, match="scsi READ_10 has no field offset: it has opcode, "):
        _ = message(request()).scsi.offset


def test_the_input_of_a_hypercall() -> None:
    block = (0x2003).to_bytes(4, "little") + bytes(4)
    event = Hypercall(0, 0, 0x5D, "HvCallSignalEvent", 0x1005D, 0, 0, 0, "", "", block)
    found = message(event)
    found.hypercall_input.connection_id = 9
    assert event.block == (9).to_bytes(4, "little") + bytes(4)


def test_the_value_of_a_register_that_has_fields() -> None:
    event = MsrAccess(0, 0, 0x40000092, "HV_X64_MSR_SINT2", True, 0xF3, False)
    found = message(event)
    found["msr_value.sint.vector"] = 0x45
    found["msr_value.sint.masked"] = 1
    assert event.value == 0x10045
