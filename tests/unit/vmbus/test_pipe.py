"""Pipes: framed messages and streams, from a guest that keeps to the framing and from one that does not."""

from __future__ import annotations

from uuid import UUID

import pytest

from ringminus.errors import GuestError
from ringminus.vmbus.device import Channel
from ringminus.vmbus.pipe import LARGEST, PipeDevice, PipeError, PipePacket, PipeReader, frame
from ringminus.vmbus.ring_wire import PipeHeader
from ringminus.vmbus.wire import ChannelFlag, PipeMode
from support.bus_bed import Bed, add
from support.bus_driver import GuestChannel

BYTE, MESSAGE = PipeMode.BYTE, PipeMode.MESSAGE
DATA, PARTIAL = PipePacket.DATA, PipePacket.PARTIAL


def packet(data: bytes, kind: int = DATA, size: int | None = None, padding: int = 0) -> memoryview:
    """A packet's payload, with the padding that rings add; `size` is what its header claims."""
    header = PipeHeader(flags=kind, msgsize=len(data) if size is None else size)
    return memoryview(header.pack() + data + bytes(padding))


def read(reader: PipeReader, *packets: memoryview) -> list[bytes | None]:
    return [reader.receive(one) for one in packets]


# ---------------------------------------------------------------- framing


def test_a_header_is_the_type_and_the_number_of_bytes() -> None:
    assert frame(b"hello", MESSAGE) == [bytes.fromhex("01000000 05000000") + b"hello"]


@pytest.mark.parametrize("mode", PipeMode)
@pytest.mark.parametrize("length", [0, 1, 7, 8, LARGEST])
def test_what_is_framed_is_read_again(mode: PipeMode, length: int) -> None:
    data = bytes(range(256)) * (LARGEST // 256)
    (payload,) = frame(data[:length], mode)
    assert PipeReader(mode).receive(memoryview(payload)) == data[:length]


def test_a_message_has_a_largest_size() -> None:
    with pytest.raises(ValueError, match=f"{LARGEST} bytes at most"):
        frame(bytes(LARGEST + 1), MESSAGE)


def test_a_stream_is_cut_into_pieces_of_any_total() -> None:
    data = bytes(range(251)) * 200
    payloads = frame(data, BYTE)
    assert len(payloads) == -(-len(data) // LARGEST) and max(map(len, payloads)) == LARGEST + PipeHeader.SIZE
    reader = PipeReader(BYTE)
    assert b"".join(reader.receive(memoryview(one)) or b"" for one in payloads) == data


def test_the_rings_padding_is_no_data() -> None:
    assert read(PipeReader(MESSAGE), packet(b"hello", padding=3)) == [b"hello"]


# ---------------------------------------------------------------- partial packets


def test_a_message_may_come_in_parts() -> None:
    reader = PipeReader(MESSAGE)
    parts = packet(b"one ", PARTIAL), packet(b"", PARTIAL), packet(b"two ", PARTIAL), packet(b"three")
    assert read(reader, *parts) == [None, None, None, b"one two three"]
    assert read(reader, packet(b"next")) == [b"next"]


def test_parts_make_no_larger_message_than_a_whole_one() -> None:
    reader = PipeReader(MESSAGE)
    assert read(reader, packet(bytes(LARGEST), PARTIAL)) == [None]
    with pytest.raises(PipeError, match=f"more than {LARGEST}"):
        reader.receive(packet(b"!", PARTIAL))


def test_the_last_part_counts_as_well() -> None:
    reader = PipeReader(MESSAGE)
    assert read(reader, packet(bytes(LARGEST), PARTIAL)) == [None]
    with pytest.raises(PipeError, match=f"more than {LARGEST}"):
        reader.receive(packet(b"!"))


def test_a_stream_has_no_partial_packets() -> None:
    with pytest.raises(PipeError, match="type 2"):
        PipeReader(BYTE).receive(packet(b"part", PARTIAL))


# ---------------------------------------------------------------- hostile framing


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (memoryview(b""), "of 0 bytes"),
        (memoryview(bytes(7)), "of 7 bytes"),
        (packet(b"hello", size=6), "6 bytes in a pipe packet of 13"),
        (packet(b"hello", size=0xFFFFFFFF), "4294967295 bytes"),
        (packet(bytes(LARGEST + 1)), f"{LARGEST + 1} bytes"),
        (packet(b"hello", kind=0), "type 0"),
        (packet(b"hello", kind=3), "type 3"),
        (packet(b"hello", kind=0x80000001), "type 2147483649"),
    ],
)
@pytest.mark.parametrize("mode", PipeMode)
def test_framing_that_cannot_be_is_the_guests_error(
    mode: PipeMode, payload: memoryview, message: str
) -> None:
    with pytest.raises(PipeError, match=message) as raised:
        PipeReader(mode).receive(payload)
    assert isinstance(raised.value, GuestError)


# ---------------------------------------------------------------- a device


class Shouter(PipeDevice):
    """Gives each message back in capitals; the end of a stream ends its own."""

    interface = UUID("5f0a6f3e-8a55-4e3b-9f0a-222222222222")

    def message(self, channel: Channel, data: bytes) -> None:
        self.send_message(channel, data.upper() * (3000 if data == b"much" else 1))


class Stream(Shouter):
    pipe_mode = BYTE


@pytest.fixture
def bed() -> Bed:
    return Bed()


def opened(bed: Bed, device: PipeDevice) -> GuestChannel:
    add(bed.bus, bed.guest, device)
    (offer,) = bed.driver.offers()
    assert offer.offer.chn_flags & ChannelFlag.NAMED_PIPE_MODE
    assert offer.offer.user_def[:4] == int(device.pipe_mode or 0).to_bytes(4, "little")
    return bed.driver.open(offer)


def answers(channel: GuestChannel) -> list[bytes]:
    messages = []
    for received in channel.receive():
        header = PipeHeader.unpack(received.payload)
        assert (received.kind, header.flags) == (6, DATA)
        messages.append(received.payload[PipeHeader.SIZE :][: header.msgsize])
    return messages


def test_a_device_has_messages_in_and_out(bed: Bed) -> None:
    channel = opened(bed, Shouter())
    channel.send(packet(b"he", PARTIAL).tobytes())
    assert answers(channel) == []
    channel.send(packet(b"llo").tobytes())
    channel.send(packet(b"you").tobytes())
    assert answers(channel) == [b"HELLO", b"YOU"]


def test_a_guest_that_asks_for_completions_gets_them(bed: Bed) -> None:
    channel = opened(bed, Shouter())
    channel.send(packet(b"he", PARTIAL).tobytes(), 5, wants_completion=True)
    channel.send(packet(b"llo").tobytes(), 6, wants_completion=True)
    assert [(one.kind, one.transaction_id) for one in channel.receive()] == [(11, 5), (11, 6), (6, 0)]


def test_a_stream_ends_with_an_empty_piece(bed: Bed) -> None:
    channel = opened(bed, Stream())
    for data in (b"much", b""):
        channel.send(packet(data).tobytes())
    assert answers(channel) == [b"MUCH" * 3000, b""]


def test_bad_framing_fails_the_channel_and_what_was_begun_is_forgotten(bed: Bed) -> None:
    channel = opened(bed, Shouter())
    channel.send(packet(b"forgotten ", PARTIAL).tobytes())
    channel.send(packet(b"hello", size=99).tobytes())
    assert bed.bus.failures == {"Shouter": 1}
    channel.send(packet(b"anybody?").tobytes())
    assert answers(channel) == []
    channel.close()
    again = bed.driver.open(channel.offer)
    again.send(packet(b"anew").tobytes())
    assert answers(again) == [b"ANEW"]
