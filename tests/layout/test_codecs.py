"""The codecs of hot paths decode what the structures beside them declare."""

from __future__ import annotations

import struct

import pytest

from ringminus.devices.storage import cdb_wire
from ringminus.devices.storage import wire as storage
from ringminus.vmbus import ring_wire
from ringminus.wire import Struct

DATA = bytes(range(1, 129))  # every byte is another


@pytest.mark.parametrize(
    ("codec", "structure", "fields"),
    [
        (ring_wire.DESCRIPTOR, ring_wire.PacketDescriptor, ("type", "offset8", "len8", "flags", "trans_id")),
        (ring_wire.RANGE_COUNT, ring_wire.GpaDirectHeader, ("range_count",)),
        (ring_wire.RANGE_HEADER, ring_wire.GpaRangeHeader, ("byte_count", "byte_offset")),
        (ring_wire.RANGE_HEADER, ring_wire.TransferPageRange, ("byte_count", "byte_offset")),
        (
            ring_wire.TRANSFER_HEADER,
            ring_wire.TransferPageHeader,
            ("xfer_pageset_id", "sender_owns_set", "reserved", "range_cnt"),
        ),
        (cdb_wire.HOT_READ_WRITE_10, cdb_wire.ReadWrite10, ("flags", "lba", "transfer_length")),
        (cdb_wire.HOT_READ_WRITE_12, cdb_wire.ReadWrite12, ("flags", "lba", "transfer_length")),
        (cdb_wire.HOT_READ_WRITE_16, cdb_wire.ReadWrite16, ("flags", "lba", "transfer_length")),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_codec_is_its_structure(
    codec: struct.Struct, structure: type[Struct], fields: tuple[str, ...]
) -> None:
    """From the first of its fields on."""
    decoded = structure.unpack(DATA)
    assert codec.unpack_from(DATA, structure.offset_of(fields[0])) == tuple(
        getattr(decoded, name) for name in fields
    )


def test_a_storage_request_is_decoded_in_one_go() -> None:
    packet = storage.VstorPacket.unpack(DATA)
    request = storage.VmscsiRequest.unpack(packet.body)
    assert storage.HOT_REQUEST.unpack_from(DATA) == (
        packet.operation,
        request.path_id | request.target_id << 8,
        request.lun,
        request.data_in,
        request.data_transfer_length,
        request.cdb[0],
    )
    assert DATA[storage.CDB_OFFSET :].startswith(request.cdb)


@pytest.mark.parametrize(("header", "payload"), [(0, 0), (0, 16), (8, 5), (24, 1)])
def test_a_whole_packet_is_descriptor_header_payload_and_footer(header: int, payload: int) -> None:
    body = DATA[:payload]
    packet = ring_wire.whole_packet(header, payload).pack(6, 2, 3, 1, 9, DATA[:header], body, 0, 64)
    descriptor = ring_wire.PacketDescriptor(type=6, offset8=2, len8=3, flags=1, trans_id=9)
    footer = ring_wire.Footer(packet_offset=64)
    padded = body + bytes(-payload % ring_wire.UNIT)
    assert packet == descriptor.pack() + DATA[:header] + padded + footer.pack()
    assert ring_wire.DESCRIPTOR_SIZE == descriptor.SIZE and ring_wire.FOOTER_SIZE == footer.SIZE


@pytest.mark.parametrize(
    ("word", "field"),
    [
        (ring_wire.ControlWord.WRITE_INDEX, "write_index"),
        (ring_wire.ControlWord.READ_INDEX, "read_index"),
        (ring_wire.ControlWord.INTERRUPT_MASK, "interrupt_mask"),
        (ring_wire.ControlWord.PENDING_SEND_SIZE, "pending_send_sz"),
        (ring_wire.ControlWord.FEATURES, "feature_bits"),
    ],
)
def test_control_words_are_the_fields_of_the_control_page(word: int, field: str) -> None:
    assert ring_wire.RingBuffer.offset_of(field) == 4 * word
