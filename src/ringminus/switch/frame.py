"""An Ethernet frame on its way, with what its sender has left undone.

Within our care nobody computes a checksum or cuts a large frame: who sends says what is missing, and it is
done where a frame leaves us (to libslirp, into a file, to a guest that did not ask for such frames). The
model is that of Linux's virtio_net_hdr."""

from __future__ import annotations

from enum import IntEnum

LARGEST_FRAME = 14 + 65535
"""Bytes of the largest frame: an Ethernet header and an IP packet."""


class Checksum(IntEnum):
    """What is known of the TCP or UDP checksum. The IPv4 header's is always right or as the sender wanted
    it."""

    UNKNOWN = 0
    """As it came: the receiver has to look."""
    VALID = 1
    """The field is right: it was verified, or written by who can be trusted with that."""
    MISSING = 2
    """The field holds nothing of use. It counts as right for a receiver that can be told so, and is computed
    where the frame leaves our care. Only for TCP and UDP over IPv4 or IPv6."""


class Frame:
    """A frame.

    `data` begins with the destination address; no 802.1Q tag, no FCS. `tci` is the tag's control
    information (priority << 13 | DEI << 12 | VLAN id), None for an untagged frame. `segment_size` above 0
    says that this is a large TCP frame that stands for a sequence of frames with at most so many payload
    bytes each; its IP length is that of the large frame, up to 65,535."""

    __slots__ = ("checksum", "data", "segment_size", "tci")

    def __init__(
        self,
        data: bytes,
        tci: int | None = None,
        checksum: Checksum = Checksum.UNKNOWN,
        segment_size: int = 0,
    ) -> None:
        self.data = data
        self.tci = tci
        self.checksum = checksum
        self.segment_size = segment_size

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        tag = "" if self.tci is None else f" tci {self.tci:#x}"
        large = f" in segments of {self.segment_size}" if self.segment_size else ""
        return f"Frame({len(self.data)} bytes{tag} checksum {self.checksum.name}{large})"
