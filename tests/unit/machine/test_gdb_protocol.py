"""Packets of the remote protocol: framing, checksums, escapes, repetition, acknowledgements."""

from __future__ import annotations

import pytest

from ringminus.machine.gdb.protocol import LONGEST, Packet, PacketStream, Signal, checksum, escape, expand


def packet(body: bytes) -> bytes:
    return b"$%b#%02x" % (body, checksum(body))


@pytest.fixture
def stream() -> PacketStream:
    return PacketStream()


def test_a_packet_is_taken_and_acknowledged(stream: PacketStream) -> None:
    assert stream.receive(b"$qC#b4") == [Packet(b"qC")]
    assert stream.take() == b"+"


def test_a_packet_may_come_in_pieces_and_several_at_once(stream: PacketStream) -> None:
    line = packet(b"m0,10") + b"+" + packet(b"g")
    arrived = [event for byte in line for event in stream.receive(bytes((byte,)))]
    assert arrived == [Packet(b"m0,10"), Packet(b"g")]
    assert stream.receive(line) == arrived


def test_a_wrong_checksum_asks_for_the_packet_again(stream: PacketStream) -> None:
    assert stream.receive(b"$qC#00") == []
    assert stream.take() == b"-"
    assert stream.receive(b"$qC#zz") == []
    assert stream.take() == b"-"


def test_checksums_are_read_in_either_case(stream: PacketStream) -> None:
    assert stream.receive(b"$m#6D$m#6d") == [Packet(b"m")] * 2


def test_what_was_sent_is_sent_again_when_it_is_asked_for(stream: PacketStream) -> None:
    stream.send(b"OK")
    assert stream.take() == b"$OK#9a"
    stream.receive(b"+")
    assert stream.take() == b""
    stream.receive(b"-")
    assert stream.take() == b"$OK#9a"


def test_without_acknowledgements_none_is_sent_or_heeded(stream: PacketStream) -> None:
    stream.leave_out_acknowledgements()
    stream.send(b"OK")
    stream.take()
    assert stream.receive(b"-" + packet(b"g") + b"$g#00") == [Packet(b"g")]
    assert stream.take() == b""


def test_ctrl_c_is_an_interrupt_outside_of_packets_only(stream: PacketStream) -> None:
    assert stream.receive(b"\x03" + packet(b"X\x03") + b"\x03") == [
        Signal.INTERRUPT,
        Packet(b"X\x03"),
        Signal.INTERRUPT,
    ]


def test_escapes_and_repetitions_are_undone(stream: PacketStream) -> None:
    assert stream.receive(packet(b"X0,2:}\x04}]")) == [Packet(b"X0,2:$}")]
    assert stream.receive(packet(b"0* ")) == [Packet(b"0000")]
    assert stream.receive(packet(b"}\x03*#"[:3] + b'"')) == [Packet(b"######")]


@pytest.mark.parametrize("body", [b"abc}", b"abc*", b"* ", b"a*\x1d", b"a*\x00"])
def test_escapes_and_repetitions_of_nothing_are_refused(body: bytes) -> None:
    assert expand(body) is None


def test_every_byte_survives_the_way(stream: PacketStream) -> None:
    payload = bytes(range(256)) * 3
    assert expand(escape(payload)) == payload
    assert not set(b"$#*") & set(escape(payload))
    stream.send(payload)
    assert PacketStream().receive(stream.take()) == [Packet(payload)]


def test_a_packet_that_begins_anew_is_taken_from_its_last_beginning(stream: PacketStream) -> None:
    assert stream.receive(b"$m0,1$qC#b4") == [Packet(b"qC")]


def test_noise_is_passed_over(stream: PacketStream) -> None:
    assert stream.receive(b"hello\r\n\xff#00" + packet(b"g")) == [Packet(b"g")]


def test_a_packet_that_is_too_long_is_dropped_to_its_end(stream: PacketStream) -> None:
    body = b"X" * (LONGEST * 3)
    assert stream.receive(packet(body)) == [Signal.TOO_LONG]
    line = packet(body)
    pieces = (line[start : start + 999] for start in range(0, len(line), 999))
    assert [event for piece in pieces for event in stream.receive(piece)] == [Signal.TOO_LONG]
    assert stream.receive(packet(b"g")) == [Packet(b"g")]


def test_repetition_does_not_make_a_small_packet_a_huge_one(stream: PacketStream) -> None:
    assert stream.receive(packet(b"0" + b"*~" * (LONGEST // 2 - 8))) == []
    assert stream.take() == b"-"
