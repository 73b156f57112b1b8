"""The DHCP guard and the router guard, and what a guest may try to get past them."""

from __future__ import annotations

import pytest

from ringminus.switch.drops import Drop
from ringminus.switch.frame import Frame
from ringminus.switch.guards import guard
from ringminus.switch.port import PortSettings
from ringminus.switch.wire import IpProtocol
from support.endpoints import Bed, frame, mac, trunk
from support.ip_packets import (
    DHCP_OFFER,
    DHCPV6_ADVERTISE,
    MORE,
    ROUTER_ADVERTISEMENT,
    ethernet,
    extension,
    fragment,
    icmp,
    ipv4,
    ipv6,
    snap,
    tagged,
    udp,
)

HOP, DESTINATION, FRAGMENT = (
    int(one) for one in (IpProtocol.HOP_BY_HOP, IpProtocol.DESTINATION_OPTIONS, IpProtocol.FRAGMENT)
)
UDP, TCP, ICMP, ICMPV6 = (
    int(one) for one in (IpProtocol.UDP, IpProtocol.TCP, IpProtocol.ICMP, IpProtocol.ICMPV6)
)
OFFER, ADVERTISE, ADVERTISEMENT = udp(67, 68, bytes(240)), udp(547, 546, bytes(40)), icmp(134)


def dhcp(data: bytes) -> Drop | None:
    check = guard(PortSettings(dhcp_guard=True))
    assert check is not None
    return check(data)


def router(data: bytes) -> Drop | None:
    check = guard(PortSettings(router_guard=True))
    assert check is not None
    return check(data)


SERVERS = {
    "IPv4": DHCP_OFFER,
    "to a relay": ipv4(udp(67, 67), UDP),
    "IPv6": DHCPV6_ADVERTISE,
    "IP options": ipv4(OFFER, UDP, options=bytes(40)),
    "first of fragments": ipv4(OFFER[:16], UDP, fragment=MORE),
    "cut off in the UDP header": ipv4(OFFER[:4], UDP),
    "no UDP header at all": ipv4(b"", UDP),
    "hop-by-hop options": ipv6(extension(UDP) + ADVERTISE, HOP),
    "many extension headers": ipv6(extension(DESTINATION) * 20 + extension(UDP, 3) + ADVERTISE, DESTINATION),
    "first of IPv6 fragments": ipv6(fragment(UDP, more=True) + ADVERTISE[:16], FRAGMENT),
    "an IPv6 fragment that is the whole": ipv6(fragment(UDP) + ADVERTISE, FRAGMENT),
    "extension headers and a fragment": ipv6(
        extension(FRAGMENT) + fragment(DESTINATION) + extension(UDP) + ADVERTISE, DESTINATION
    ),
}

ADVERTISEMENTS = {
    "IPv6": ROUTER_ADVERTISEMENT,
    "IPv6 redirect": ipv6(icmp(137), ICMPV6),
    "IPv4": ipv4(icmp(9), ICMP),
    "IPv4 redirect": ipv4(icmp(5), ICMP),
    "IP options": ipv4(icmp(9), ICMP, options=bytes(8)),
    "first of fragments": ipv4(icmp(9)[:8], ICMP, fragment=MORE),
    "destination options": ipv6(extension(ICMPV6) + ADVERTISEMENT, DESTINATION),
    "an IPv6 fragment that is the whole": ipv6(fragment(ICMPV6) + ADVERTISEMENT, FRAGMENT),
    "first of IPv6 fragments": ipv6(fragment(ICMPV6, more=True) + ADVERTISEMENT[:8], FRAGMENT),
    "a fragment of a fragment": ipv6(fragment(FRAGMENT) + fragment(ICMPV6) + ADVERTISEMENT, FRAGMENT),
    "an empty message": ipv4(b"", ICMP),
}

HARMLESS = {
    "a DHCP client": ipv4(udp(68, 67, bytes(240)), UDP),
    "a DHCPv6 client": ipv6(udp(546, 547, bytes(40)), UDP),
    "547 over IPv4": ipv4(udp(547, 1), UDP),
    "67 over IPv6": ipv6(udp(67, 1), UDP),
    "TCP port 67": ipv4((67).to_bytes(2, "big") + bytes(18), TCP),
    "a router solicitation": ipv6(icmp(133), ICMPV6),
    "a neighbour solicitation": ipv6(icmp(135), ICMPV6),
    "ping": ipv4(icmp(8), ICMP),
    "ping over IPv6": ipv6(extension(ICMPV6) + icmp(128), HOP),
    "134 over IPv4": ipv4(icmp(134), ICMP),
    "a later fragment": ipv4(OFFER, UDP, fragment=100),
    "a later IPv6 fragment": ipv6(fragment(UDP, 1024, more=True) + ADVERTISE, FRAGMENT),
    "a later fragment behind options": ipv6(
        extension(FRAGMENT) + fragment(ICMPV6, 8) + ADVERTISEMENT, DESTINATION
    ),
    "ICMP over IPv6": ipv6(icmp(9), ICMP),
    "ICMPv6 over IPv4": ipv4(icmp(137), ICMPV6),
    "no next header": ipv6(b"", 59),
    "another protocol": ipv4(OFFER, 47),
    "ARP": ethernet(bytes(28), 0x0806),
    "spanning tree": ethernet(bytes.fromhex("424203") + bytes(35), 38),
    "a frame of only a header": ethernet(b"", 0x88B5),
}


def wrappings(data: bytes) -> dict[str, bytes]:
    """The frame as a receiver would still understand it."""
    return {
        "plain": data,
        "padded": data + bytes(46),
        "tagged": tagged(data, 5),
        "priority": tagged(data, 0xE000),
        "802.1ad": tagged(tagged(data, 5), 6, 0x88A8),
        "SNAP": snap(data),
        "tagged SNAP": tagged(snap(data), 5),
        "SNAP of a tagged one": snap(tagged(data, 5)),
    }


@pytest.mark.parametrize("name", SERVERS)
def test_messages_of_dhcp_servers_are_dropped(name: str) -> None:
    for wrapping, data in wrappings(SERVERS[name]).items():
        assert dhcp(data) is Drop.DHCP_GUARD, wrapping


@pytest.mark.parametrize("name", ADVERTISEMENTS)
def test_messages_of_routers_are_dropped(name: str) -> None:
    for wrapping, data in wrappings(ADVERTISEMENTS[name]).items():
        assert router(data) is Drop.ROUTER_GUARD, wrapping


@pytest.mark.parametrize("name", HARMLESS)
def test_everything_else_passes(name: str) -> None:
    for wrapping, data in wrappings(HARMLESS[name]).items():
        assert (dhcp(data), router(data)) == (None, None), wrapping


def test_each_guard_minds_its_own() -> None:
    assert router(SERVERS["IPv4"]) is router(SERVERS["IPv6"]) is None
    assert dhcp(ADVERTISEMENTS["IPv4"]) is dhcp(ADVERTISEMENTS["IPv6"]) is None
    assert guard(PortSettings()) is None
    both = guard(PortSettings(dhcp_guard=True, router_guard=True))
    assert both is not None
    assert (both(DHCP_OFFER), both(ROUTER_ADVERTISEMENT)) == (Drop.DHCP_GUARD, Drop.ROUTER_GUARD)


OPAQUE = {
    "a first fragment without its header": ipv6(
        fragment(DESTINATION, more=True) + extension(ICMPV6, 4)[:8], FRAGMENT
    ),
    "options that end behind the packet": ipv6(extension(ICMPV6, 200)[:64], DESTINATION),
    "nothing behind the options": ipv6(extension(DESTINATION), HOP),
    "a fragment header that is cut off": ipv6(fragment(UDP)[:4], FRAGMENT),
    "a jumbogram": ipv6(b"", HOP) + extension(UDP) + ADVERTISE,
    "an IP header that is too short": ipv4(OFFER, UDP)[:14] + b"\x44" + ipv4(OFFER, UDP)[15:],
    "a length beyond the frame": ipv4(OFFER, UDP, length=2000),
    "IPv6 said to be IPv4": ethernet(ROUTER_ADVERTISEMENT[14:], 0x0800),
    "endless tags": ethernet(bytes.fromhex("00058100") * 100, 0x8100),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_what_hides_its_header_is_dropped(name: str) -> None:
    assert dhcp(OPAQUE[name]) is Drop.DHCP_GUARD
    assert router(OPAQUE[name]) is Drop.ROUTER_GUARD


# ------------------------------------------------------------------ at a port


def test_a_guarded_port_drops_and_counts_and_others_do_not() -> None:
    bed = Bed()
    guest, port = bed.plug(PortSettings(dhcp_guard=True, router_guard=True))
    server, free = bed.plug()
    for data in (DHCP_OFFER, ROUTER_ADVERTISEMENT, HARMLESS["a DHCP client"]):
        guest.port.send(Frame(data))
        server.port.send(Frame(data))
    assert server.data() == [HARMLESS["a DHCP client"]]
    assert len(guest.frames) == 3, "the guard is on what a guest sends"
    assert port.counters.dropped == {Drop.DHCP_GUARD: 1, Drop.ROUTER_GUARD: 1}
    assert free.counters.dropped == {}


def test_a_guard_looks_at_frames_between_ports_that_know_each_other() -> None:
    bed = Bed()
    guest, port = bed.plug(PortSettings(address=mac(1), dhcp_guard=True))
    victim, _ = bed.plug(PortSettings(address=mac(2)))
    guest.port.send(frame(mac(2), mac(1)))
    guest.port.send(Frame(DHCP_OFFER))
    assert victim.data() == [frame(mac(2), mac(1)).data]
    assert port.counters.dropped == {Drop.DHCP_GUARD: 1}


def test_a_guard_sees_through_the_tags_of_a_trunk() -> None:
    bed = Bed()
    guest, port = bed.plug(PortSettings(vlan=trunk(5), dhcp_guard=True))
    other, _ = bed.plug(PortSettings(vlan=trunk(5)))
    guest.port.send(Frame(DHCP_OFFER, tci=5))
    guest.port.send(Frame(tagged(DHCP_OFFER, 5)))
    guest.port.send(Frame(tagged(DHCP_OFFER, 9), tci=5))
    assert other.frames == []
    assert port.counters.dropped == {Drop.DHCP_GUARD: 3}


def test_a_guard_may_be_switched_on_and_off() -> None:
    bed = Bed()
    guest, port = bed.plug()
    other, _ = bed.plug()
    for guarded in (False, True, False):
        port.configure(PortSettings(dhcp_guard=guarded))
        guest.port.send(Frame(DHCP_OFFER))
    assert len(other.frames) == 2
