"""Rings, packets and monitor pages as they lie in guest memory; names as in Linux's include/linux/hyperv.h.

The codecs below are the hot path's: each is the layout of the structure that it stands beside.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from functools import cache
from typing import Annotated

from ringminus.wire import U8, U16, U32, U64, Array, Bytes, Struct

DESCRIPTOR_SIZE = 16
FOOTER_SIZE = 8
UNIT = 8  # lengths and offsets of descriptors are in units of 8 bytes; packets begin at multiples of it
FEATURE_PENDING_SEND_SIZE = 1


class ControlWord(IntEnum):
    """Where the fields of `RingBuffer` are, in words of 4 bytes."""

    WRITE_INDEX = 0
    READ_INDEX = 1
    INTERRUPT_MASK = 2
    PENDING_SEND_SIZE = 3
    FEATURES = 16


class RingBuffer(Struct):
    """hv_ring_buffer: the control page before a ring's data. Indices are byte offsets into the data."""

    write_index: U32
    read_index: U32
    interrupt_mask: U32
    pending_send_sz: U32
    reserved1: Annotated[bytes, Bytes(48)] = b""
    feature_bits: U32 = 0


class PacketFlag(IntFlag):
    """Flags of a descriptor."""

    COMPLETION_REQUESTED = 1


class PacketDescriptor(Struct):
    """vmpacket_descriptor."""

    type: U16
    offset8: U16
    len8: U16
    flags: U16
    trans_id: U64


class TransferPageHeader(Struct):
    """vmtransfer_page_packet_header, before its ranges; `descriptor` included."""

    descriptor: PacketDescriptor
    xfer_pageset_id: U16
    sender_owns_set: U8 = 0
    reserved: U8 = 0
    range_cnt: U32


class TransferPageRange(Struct):
    """vmtransfer_page_range."""

    byte_count: U32
    byte_offset: U32


class GpaDirectHeader(Struct):
    """vmdata_gpa_direct, before its ranges; `descriptor` included."""

    descriptor: PacketDescriptor
    reserved: U32 = 0
    range_count: U32


class GpaRangeHeader(Struct):
    """gpa_range, before its page numbers."""

    byte_count: U32
    byte_offset: U32


class Footer(Struct):
    """What follows each packet: where in the ring it began."""

    reserved: U32 = 0
    packet_offset: U32


class PipeHeader(Struct):
    """vmbuspipe_hdr: before each message of a pipe."""

    flags: U32
    msgsize: U32


class MonitorParameter(Struct):
    """hv_monitor_parameter: what a bit stands for."""

    connection_id: U32
    flag_number: U16
    reserved: U16 = 0


class MonitorPage(Struct):
    """hv_monitor_page. Groups are pairs of words, pending and armed; arrays have an entry for each of 128
    monitor ids: the time of the next check, the latency (100 ns), and a `MonitorParameter`."""

    trigger_state: U32
    reserved1: U32 = 0
    trigger_groups: Annotated[tuple[int, ...], Array("Q", 4)]
    reserved2: Annotated[tuple[int, ...], Array("Q", 3)] = (0,) * 3
    next_check_time: Annotated[tuple[int, ...], Array("i", 128)]
    latency: Annotated[tuple[int, ...], Array("H", 128)]
    reserved3: Annotated[tuple[int, ...], Array("Q", 32)] = (0,) * 32
    parameters: Annotated[bytes, Bytes(128 * 8)]
    reserved4: Annotated[bytes, Bytes(1984)] = b""


DESCRIPTOR = struct.Struct("<HHHHQ")  # PacketDescriptor
RANGE_COUNT = struct.Struct("<I")  # GpaDirectHeader.range_count
RANGE_HEADER = struct.Struct("<II")  # GpaRangeHeader, TransferPageRange
TRANSFER_HEADER = struct.Struct("<HBBI")  # TransferPageHeader after the descriptor


@cache
def page_numbers(count: int) -> struct.Struct:
    """`count` page numbers."""
    return struct.Struct(f"<{count}Q")


@cache
def whole_packet(header: int, payload: int) -> struct.Struct:
    """PacketDescriptor, `header` bytes that the type adds, the payload padded to 8 bytes, Footer."""
    return struct.Struct(f"<HHHHQ{header}s{payload}s{-payload % UNIT}xII")
