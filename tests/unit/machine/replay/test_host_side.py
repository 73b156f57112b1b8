"""A recorded host to a guest: here the guest is a recorded one, too, which may say something else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ringminus.devices.storage.wire import VmscsiRequest, VstorPacket
from ringminus.machine.replay.devices import host_of
from ringminus.machine.replay.guest import GuestReplay
from ringminus.machine.replay.recording import Recording
from ringminus.machine.replay.result import Result
from ringminus.machine.replay.storage import exchanges, units_of
from ringminus.tap import Event, RingPacket
from support.recordings import events
from unit.machine.replay.test_guest_side import changed, scsi, with_other


def played(host: Sequence[Event], guest: Sequence[Event]) -> tuple[Result, Result]:
    """Let a recorded guest speak to a recorded host; gives what each found of the other."""
    found_by_host = Result()
    recorded = Recording(guest).device(None)
    player = GuestReplay(recorded, host_of(Recording(host).device(None), found_by_host))
    found_by_guest = player.run()
    player.close()
    return found_by_host, found_by_guest


def with_cdb(request: RingPacket, cdb: bytes) -> RingPacket:
    vstor = VstorPacket.unpack(request.payload)
    srb = VmscsiRequest.unpack(vstor.body)
    srb.cdb = cdb
    return changed(
        request, payload=VstorPacket(operation=vstor.operation, flags=vstor.flags, body=srb.pack()).pack()
    )


def test_a_recorded_host_and_a_recorded_guest_understand_each_other() -> None:
    host, guest = played(events(), events())
    assert host.same and guest.same
    assert host.compared == guest.sent > 100
    assert host.sent == guest.compared > 100
    assert host.notes == guest.notes == []


def test_an_answer_is_the_recorded_one_and_not_our_own_device_s() -> None:
    recorded = events()
    _, answer = scsi(recorded, 0x12)
    data = answer.data[:8] + b"Nobody's" + answer.data[16:]
    host, guest = played(with_other(recorded, answer, changed(answer, data=data)), recorded)
    assert host.same
    (difference,) = guest.differences
    assert difference.changes[0].replayed is not None
    assert bytes.fromhex(difference.changes[0].replayed).startswith(b"Nobody's")


def test_a_packet_that_was_not_recorded_is_compared_with_the_one_that_was_expected() -> None:
    recorded = events()
    request, _ = scsi(recorded, 0x28)
    cdb = bytearray(VmscsiRequest.unpack(VstorPacket.unpack(request.payload).body).cdb)
    cdb[6] = 1  # GROUP NUMBER
    host, guest = played(recorded, with_other(recorded, request, with_cdb(request, bytes(cdb))))
    (difference,) = host.differences
    assert (difference.what, difference.message) == ("changed", "vstor EXECUTE_SRB | scsi READ_10")
    assert difference.sequence == request.sequence
    assert [one.field for one in difference.changes] == ["scsi.group"]
    assert guest.same  # it gets the sectors all the same, from the disk that the recording tells of


def test_sectors_that_the_recording_does_not_have_cannot_be_read() -> None:
    recorded = events()
    request, answer = scsi(recorded, 0x28)
    without = [one for one in recorded if one not in (request, answer)]
    cdb = bytearray(VmscsiRequest.unpack(VstorPacket.unpack(request.payload).body).cdb)
    all_data = units_of(Recording(recorded).device(None))[0].sectors
    cdb[2:6] = next(number for number in range(2048 - 8) if number not in all_data).to_bytes(4, "big")
    cdb[7:9] = b"\0\1"

    host, guest = played(without, with_other(recorded, request, with_cdb(request, bytes(cdb))))

    assert [one.what for one in host.differences] == ["changed"]
    (difference,) = guest.differences
    assert ("vstor.srb_status", "SUCCESS (1)", "132") in difference.changes
    assert ("scsi_sense.sense_key", None, "MEDIUM_ERROR (3)") in difference.changes


def test_a_guest_reads_what_it_has_written_itself() -> None:
    recorded = events()
    found = list(exchanges(Recording(recorded).device(None)))
    writes = [one for one in found if one.srb.cdb[0] == 0x2A]
    reads = [one for one in found if one.srb.cdb[0] == 0x28 and one.succeeded]
    write, read = next(
        (w, r)
        for w in writes
        for r in reads
        if r.request.sequence > w.request.sequence and r.answer and w.request.data in r.answer.data
    )
    other = bytes(len(write.request.data))

    host, guest = played(recorded, with_other(recorded, write.request, changed(write.request, data=other)))

    assert host.same
    assert "1 packets brought other data than was recorded" in host.notes
    assert any("what the guest itself has written" in note for note in host.notes)
    assert read.answer is not None
    assert read.answer.sequence in {one.sequence for one in guest.differences}


def test_packets_in_another_order_and_once_more_are_noted() -> None:
    recorded = events()
    asked = [one for one in exchanges(Recording(recorded).device(None)) if one.srb.cdb[0] == 0x28]
    first = next((a, b) for a, b in pairwise(asked) if a.request.payload != b.request.payload)
    swapped = with_other(recorded, first[0].request, changed(first[1].request, transaction_id=77))
    host, _ = played(recorded, swapped)
    assert host.same
    assert any("in another order" in note for note in host.notes)
    assert any("did not come" in note for note in host.notes)
