"""VLANs at a port: to which one a frame belongs, and what it looks like outside.

Inside the switch a frame has no tag in its data, whatever the guest's driver did with it; its `tci` is what
it came with, so that its priority is known where a tag goes out."""

from __future__ import annotations

from ringminus.switch.frame import Frame
from ringminus.switch.port import VlanMode
from ringminus.switch.wire import EthernetHeader, EtherType, VlanTag

LARGEST_ID = 4094
TYPE = slice(EthernetHeader.offset_of("type"), EthernetHeader.SIZE)
"""Where the type is in a frame's data."""
TAG_TYPE = EtherType.VLAN.to_bytes(2, "big")
_PRIORITY = 0xF000  # with the drop eligible indicator
_ID = 0x0FFF
_TAG_END = EthernetHeader.offset_of("type") + VlanTag.SIZE


def tag_within(data: bytes) -> bool:
    """Whether the frame's data itself has a tag in front."""
    return data[TYPE] == TAG_TYPE


class Tagging:
    """What a `VlanMode` says of frames."""

    __slots__ = ("_trunk", "native")

    def __init__(self, mode: VlanMode) -> None:
        self.native = mode.access
        """The VLAN of frames that are untagged outside."""
        self._trunk = mode.trunk

    def carries(self, vlan: int) -> bool:
        """Whether the port is a member of the VLAN."""
        return vlan == self.native or vlan in self._trunk

    def vlans(self) -> frozenset[int]:
        """All that it is a member of."""
        return self._trunk | {self.native}

    def inside(self, frame: Frame) -> tuple[int, Frame] | None:
        """The VLAN that a frame from the endpoint belongs to, and the frame as it is inside; None if it may
        not come in. A tag with VLAN id 0 says only a priority."""
        if frame.tci is None and tag_within(frame.data):
            if len(frame.data) < _TAG_END + len(TAG_TYPE):
                return None
            tag = VlanTag.unpack(frame.data, EthernetHeader.SIZE)
            data = frame.data[: TYPE.start] + frame.data[_TAG_END:]
            frame = Frame(data, tag.tci, frame.checksum, frame.segment_size)
        vlan = frame.tci & _ID if frame.tci is not None else 0
        if vlan:
            return (vlan, frame) if vlan in self._trunk else None
        # a second tag, behind one of priority or one that was taken out, may not choose the VLAN
        return None if tag_within(frame.data) else (self.native, frame)

    def outside(self, vlan: int, frame: Frame) -> Frame | None:
        """The frame as the endpoint gets it; None if it may not go out so. It is the same object if nothing
        has to be changed."""
        if vlan != self.native:
            tci = (frame.tci or 0) & _PRIORITY | vlan
            if tci == frame.tci:
                return frame
            return Frame(frame.data, tci, frame.checksum, frame.segment_size)
        if tag_within(frame.data):
            return None
        if frame.tci is None:
            return frame
        return Frame(frame.data, None, frame.checksum, frame.segment_size)
