"""Linux's TUN/TAP driver: its requests (linux/if_tun.h, linux/if.h), and what stands before each frame that
is read from it or written (struct virtio_net_hdr of linux/virtio_net.h)."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import Annotated

from ringminus.wire import I16, U8, U16, Bytes, Struct


class TunRequest(IntEnum):
    """ioctl requests of /dev/net/tun."""

    SET_INTERFACE = 0x400454CA
    SET_OFFLOAD = 0x400454D0
    SET_HEADER_SIZE = 0x400454D8
    SET_LITTLE_ENDIAN = 0x400454DC
    SET_CARRIER = 0x400454E2


class InterfaceFlag(IntFlag):
    """`InterfaceRequest.flags` of TUNSETIFF."""

    TAP = 0x0002
    MULTI_QUEUE = 0x0100
    NO_PACKET_INFO = 0x1000
    VNET_HEADER = 0x4000


class Offload(IntFlag):
    """What frames that are read may lack: TUN_F_…."""

    CHECKSUM = 0x01
    TSO4 = 0x02
    TSO6 = 0x04
    TSO_ECN = 0x08


INTERFACE_REQUEST_SIZE = 40
NAME_SIZE = 15  # bytes of a name, before its terminating zero
SET_INTERFACE_FLAGS = 0x8914  # SIOCSIFFLAGS, on any socket
INTERFACE_UP = 0x0001


class InterfaceRequest(Struct):
    """ifreq, as far as its flags; it has `INTERFACE_REQUEST_SIZE` bytes."""

    name: Annotated[bytes, Bytes(16)]
    flags: I16


class VnetFlag(IntFlag):
    """`VnetHeader.flags`."""

    NEEDS_CHECKSUM = 1
    DATA_VALID = 2


class Gso(IntEnum):
    """`VnetHeader.gso_type`; `ECN` is a bit beside the others and says that CWR is set."""

    NONE = 0
    TCP4 = 1
    TCP6 = 4
    ECN = 0x80


class VnetHeader(Struct):
    """virtio_net_hdr. With NEEDS_CHECKSUM the checksum is that of all from `csum_start` on, where the field,
    `csum_offset` bytes further, holds the sum of the pseudo-header; offsets are from the frame's begin."""

    flags: U8
    gso_type: U8
    hdr_len: U16
    gso_size: U16
    csum_start: U16
    csum_offset: U16


VNET = struct.Struct("<BBHHHH")
"""VnetHeader."""
