"""A recorded guest against our own device: the same answers, and what is shown when they are not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TypeVar

import pytest

from ringminus.devices.storage.wire import Operation, VmscsiRequest, VstorPacket
from ringminus.errors import ConfigError
from ringminus.machine.config import DiskConfig
from ringminus.machine.replay import devices
from ringminus.machine.replay.guest import GuestReplay
from ringminus.machine.replay.recording import Recording
from ringminus.machine.replay.storage import exchanges, units_of
from ringminus.tap import ChannelState, DeviceMessage, Event, GpadlChange, RingPacket
from support.recordings import events, replayed

COMPLETION = 11
E = TypeVar("E", bound=Event)


def changed(event: E, **values: object) -> E:
    """A copy with other values."""
    made = copy.copy(event)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def scsi(recorded: list[Event], opcode: int) -> tuple[RingPacket, RingPacket]:
    """The first command of that kind, and its answer."""
    for one in exchanges(Recording(recorded).device(None)):
        if one.srb.cdb[0] == opcode and one.succeeded and one.answer is not None:
            return one.request, one.answer
    raise AssertionError(f"no command {opcode:#x} was recorded")


def with_other(recorded: list[Event], old: Event, new: Event) -> list[Event]:
    return [new if one is old else one for one in recorded]


def test_a_recorded_guest_gets_the_same_answers_again() -> None:
    recorded = events()
    packets = [one for one in recorded if isinstance(one, RingPacket)]

    result = replayed(recorded)

    assert result.same
    assert result.sent == sum(not one.to_guest for one in packets) > 100
    assert result.compared == sum(one.to_guest for one in packets) > 100
    assert result.notes == []


def test_an_answer_that_is_not_the_same_is_shown_field_by_field() -> None:
    recorded = events()
    request, answer = scsi(recorded, 0x28)
    vstor = VstorPacket.unpack(answer.payload)
    srb = VmscsiRequest.unpack(vstor.body)
    other = VmscsiRequest.unpack(vstor.body)
    other.data_transfer_length = srb.data_transfer_length - 512
    payload = VstorPacket(operation=vstor.operation, status=vstor.status, body=other.pack()).pack()

    result = replayed(with_other(recorded, answer, changed(answer, payload=payload)))

    (difference,) = result.differences
    assert (difference.what, difference.sequence) == ("changed", answer.sequence)
    assert difference.message == "vstor COMPLETE_IO"
    assert difference.answers == "vstor EXECUTE_SRB | scsi READ_10"
    assert [tuple(one) for one in difference.changes] == [
        ("vstor.data_transfer_length", str(other.data_transfer_length), str(srb.data_transfer_length))
    ]
    assert request.sequence < answer.sequence


def test_data_that_is_not_the_same_is_shown_from_its_first_byte_on() -> None:
    recorded = events()
    _, answer = scsi(recorded, 0x12)
    data = answer.data[:8] + b"Nobody's" + answer.data[16:]

    result = replayed(with_other(recorded, answer, changed(answer, data=data)))

    (difference,) = result.differences
    (change,) = difference.changes
    assert change.field == "data from byte 8 on"
    assert change.recorded is not None and bytes.fromhex(change.recorded).startswith(b"Nobody's")
    assert change.replayed is not None and bytes.fromhex(change.replayed).startswith(b"Msft    ")


def test_what_the_device_sends_that_was_not_recorded_and_the_other_way_round() -> None:
    recorded = events()
    last = next(one for one in reversed(recorded) if isinstance(one, RingPacket) and one.to_guest)
    own = VstorPacket(operation=Operation.ENUMERATE_BUS).pack()
    news = changed(last, kind=6, payload=own, transaction_id=0, sequence=last.sequence + 1, cause=0)

    result = replayed([*recorded, news])

    (difference,) = result.differences
    assert (difference.what, difference.message) == ("missing", "vstor ENUMERATE_BUS")


def test_a_guest_that_writes_is_replayed_on_a_file_that_stays_as_it_is(tmp_path: Path) -> None:
    recorded = events()
    recording = Recording(recorded)
    device = recording.device("SCSI")
    unit = units_of(device)[0]
    image = bytearray(unit.blocks * unit.block_size)
    for number, sector in unit.sectors.items():
        image[number * 512 : number * 512 + 512] = sector
    path = tmp_path / "disk.img"
    path.write_bytes(image)

    made = devices.make(device, [DiskConfig(path, format="raw")])
    player = GuestReplay(device, made.device, recording.version)
    result = player.run()
    player.close()
    for disk in made.disks:
        disk.close()

    assert path.read_bytes() == image
    assert result.same


def test_a_recording_without_data_needs_a_disk() -> None:
    bare = [changed(one, data=b"") if isinstance(one, RingPacket) else one for one in events()]
    with pytest.raises(ConfigError, match=r"name its disk with --disk FILE, or record with .*,data"):
        replayed(bare)


def test_a_recording_without_data_says_what_was_not_compared(tmp_path: Path) -> None:
    bare = [changed(one, data=b"") if isinstance(one, RingPacket) else one for one in events()]
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    recording = Recording(bare)
    device = recording.device(None)
    made = devices.make(device, [DiskConfig(path, format="raw")])
    player = GuestReplay(device, made.device)
    result = player.run()
    player.close()
    assert result.same
    assert any("brought data that was not recorded" in note for note in result.notes)
    assert any("was not recorded and not compared" in note for note in result.notes)
    assert not any(path.read_bytes())


def test_a_recording_that_began_late_is_played_as_far_as_it_goes() -> None:
    recorded = events()
    packets = [one for one in recorded if isinstance(one, RingPacket)]
    result = replayed(packets[20:])  # no offer, no opening, no handshake
    assert result.sent > 100 and not result.same  # the device was not shaken hands with


def test_what_an_addon_did_with_packets_is_no_difference() -> None:
    recorded = events()
    request, answer = scsi(recorded, 0x00)
    gone = [one for one in recorded if one is not answer]
    result = replayed(with_other(gone, request, changed(request, changed="dropped")))
    assert result.same
    injected = changed(answer, changed="injected", sequence=999_999)
    result = replayed([*recorded, injected])
    assert result.same and result.notes == ["1 packets to the guest are an addon's doing: not compared"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("9", "there is no channel 9 in the recording: there is SCSI (relid 1)"),
        ("net", "there is no channel net in the recording: there is SCSI (relid 1)"),
    ],
)
def test_who_names_another_channel_is_told_which_there_are(wanted: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Recording(events()).device(wanted)
    assert str(error.value) == message


def test_a_recording_without_packets_is_no_use() -> None:
    others = [one for one in events() if not isinstance(one, RingPacket | DeviceMessage)]
    assert any(isinstance(one, ChannelState | GpadlChange) for one in others)
    with pytest.raises(ConfigError, match="no packets of any channel"):
        Recording(others).device(None)


def test_a_device_that_ringminus_has_not_is_refused() -> None:
    foreign = [
        changed(one, interface=type(one.interface)(int=7))
        if isinstance(one, RingPacket | ChannelState)
        else one
        for one in events()
    ]
    with pytest.raises(ConfigError, match="name yours with --device MODULE:CLASS"):
        replayed(foreign)
