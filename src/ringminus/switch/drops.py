"""Why a frame goes no further."""

from __future__ import annotations

from enum import StrEnum


class Drop(StrEnum):
    """The keys of `PortCounters.dropped` that the switch itself counts. They are counted at the port that
    the frame came from, unless it says otherwise."""

    SHORT = "short frame"
    """It does not hold an Ethernet header."""
    SOURCE = "source address"
    """Its source is a group's address, or zero."""
    RESERVED = "reserved address"
    """It is for the bridge itself: 01:80:C2:00:00:00 to 0F (IEEE 802.1Q, table 8-1)."""
    VLAN = "vlan"
    """The port does not carry its VLAN."""
    TAG = "tag within"
    """It would leave without the tag of its VLAN, and what is then in front is another tag: it would be taken
    for a frame of that other VLAN. Counted at the port that it would have left by."""
    SPOOFED = "spoofed address"
    DHCP_GUARD = "dhcp guard"
    ROUTER_GUARD = "router guard"
    LIMIT = "limit"
    """More waits for the bandwidth limit than there is room for."""
    LINK_DOWN = "link down"
    """Of the port that it came from; or of the one that it was on its way to, and it is counted there."""
    SAME_PORT = "same port"
    """Its destination is behind the port that it came from."""
    NOBODY = "nobody there"
    """No other port carries its VLAN and may get it."""
    UNPLUGGED = "unplugged"
    """The endpoint sent after it was unplugged, or frames still waited for the bandwidth limit then, or the
    port that it was on its way to is gone since; it is counted there then."""
