"""Whatever comes from the side of gdb: defined answers, never an exception."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from ringminus.machine.gdb import target
from ringminus.machine.gdb.arguments import Resume
from ringminus.machine.gdb.commands import COMMANDS, LARGEST_READ, Stub
from ringminus.machine.gdb.protocol import LONGEST, Packet, PacketStream, Signal, checksum, escape, expand
from support.bare_metal import BareGuest
from support.effort import examples

# addresses at which something is, or nothing, or where it ends
ADDRESSES = st.sampled_from(
    ["10000", "50ffe", "3fffffe", "fee00000", "7fffffffffff", "ffffffffffffffff", "1" * 17]
)
NUMBERS = st.integers(0, 1 << 66).map(lambda value: f"{value:x}") | ADDRESSES
WORDS = st.one_of(
    NUMBERS,
    st.sampled_from(["target.xml", "features", "read", "-1", "swbreak+", "c", "s", "r", "p1.1"]),
    st.text("0123456789abcdefxyz-", max_size=8),
    st.integers(0, 80).map(lambda number: "00" * number),
)
ARGUMENTS = st.lists(st.tuples(st.sampled_from([":", ",", ";", "=", ""]), WORDS), max_size=5).map(
    lambda parts: "".join(separator + word for separator, word in parts).encode()
)
COMMAND = st.sampled_from(sorted(COMMANDS)) | st.sampled_from(
    [b"Hg", b"Z0", b"Z2", b"z4", b"qqemu", b"vRun", b"!"]
)
PACKETS = st.builds(lambda command, rest: command + rest, COMMAND, ARGUMENTS | st.binary(max_size=40))
REPLY = re.compile(
    rb"|E[0-9a-f]{2}|OK|T[0-9a-f]{2}.*|[0-9a-f]*|O[0-9a-f]*|m[0-9a-f,]+|[ml](?s:.*)|b(?s:.*)|QC[0-9a-f]+"
    rb"|PacketSize=.*|vCont;.*"
)


class Nobody:
    """A `Control` without a guest's run."""

    def resume(self, how: Resume) -> None:
        assert how.index == 0

    def kill(self) -> None:
        pass

    def detach(self) -> None:
        pass

    def monitor(self, words: str) -> str:
        return words


@given(st.lists(PACKETS, max_size=12))
@settings(max_examples=examples(150))
def test_every_packet_has_an_answer_of_a_known_form(packets: list[bytes]) -> None:
    bare = BareGuest("hlt", size=64 << 20, translation_buffer=16 << 20)
    try:
        stub = Stub(Nobody())
        stub.processors, stub.memory = [bare.processor], bare.memory
        for packet in packets:
            answers = stub.answer(packet)
            assert all(REPLY.fullmatch(answer) for answer in answers), (packet, answers)
            assert all(len(answer) <= 2 * LARGEST_READ + 1 for answer in answers)
        assert len(stub.answer(b"g")) == 1
    finally:
        bare.close()


@given(st.lists(st.tuples(st.integers(0, len(target.REGISTERS) - 1), st.binary(min_size=16, max_size=16))))
@settings(max_examples=examples(100))
def test_any_value_may_be_put_into_any_register(values: list[tuple[int, bytes]]) -> None:
    bare = BareGuest("hlt", size=64 << 20, translation_buffer=16 << 20)
    try:
        stub = Stub(Nobody())
        stub.processors, stub.memory = [bare.processor], bare.memory
        for number, value in values:
            digits = value[: target.REGISTERS[number].size].hex().encode()
            assert stub.answer(b"P%x=%b" % (number, digits)) in ([b"OK"], [b"E16"])
            assert len(stub.answer(b"g")[0]) == 2 * sum(register.size for register in target.REGISTERS)
            stub.answer(b"m%x,40" % int.from_bytes(value[:8], "little"))
    finally:
        bare.close()


NOISE = st.lists(
    st.sampled_from([b"$", b"#", b"}", b"*", b"+", b"-", b"\x03", b"#00", b"g#67", b"$g#67", b"a", b"~"])
    | st.binary(max_size=200)
)


@given(NOISE)
def test_the_stream_takes_any_bytes_in_any_pieces(pieces: list[bytes]) -> None:
    whole, parted = PacketStream(), PacketStream()
    events = whole.receive(b"".join(pieces))
    assert [event for piece in pieces for event in parted.receive(piece)] == events
    assert whole.take() == parted.take()
    assert all(isinstance(event, Signal) or len(event.payload) <= 2 * LONGEST for event in events)


@given(NOISE)
def test_what_comes_after_noise_is_understood_again(noise: list[bytes]) -> None:
    stream = PacketStream()
    stream.receive(b"".join(noise))
    stream.receive(b"#00")  # whatever packet was open ends
    assert stream.receive(b"$qC#b4")[-1:] == [Packet(b"qC")]


@given(st.binary(max_size=2000))
def test_every_payload_arrives_as_it_was_sent(payload: bytes) -> None:
    body = escape(payload)
    assert expand(body) == payload
    assert PacketStream().receive(b"$%b#%02x" % (body, checksum(body))) == [Packet(payload)]
