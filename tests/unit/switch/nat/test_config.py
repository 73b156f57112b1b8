"""Forwards and networks as a person writes them."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest

from ringminus.errors import ConfigError
from ringminus.switch.nat.config import NatConfig
from ringminus.switch.nat.forwards import Forward, parse


@pytest.mark.parametrize(
    ("text", "host", "host_port", "guest", "guest_port"),
    [
        ("tcp:2222:22", "127.0.0.1", 2222, None, 22),
        ("udp:127.0.0.1:5353:10.0.2.15:53", "127.0.0.1", 5353, "10.0.2.15", 53),
        ("tcp:8080:10.0.2.16:80", "127.0.0.1", 8080, "10.0.2.16", 80),
        ("tcp:192.168.1.5:8080:80", "192.168.1.5", 8080, None, 80),
        ("tcp:*:8080:80", "0.0.0.0", 8080, None, 80),
        ("TCP:1:65535", "127.0.0.1", 1, None, 65535),
        ("tcp:[::1]:2222:22", "::1", 2222, None, 22),
        ("udp:[::]:5353:[fec0::15]:53", "::", 5353, "fec0::15", 53),
        ("tcp:8080:[fec0::15]:80", "::1", 8080, "fec0::15", 80),
        ("tcp:*:8080:[fec0::15]:80", "::", 8080, "fec0::15", 80),
    ],
)
def test_forwards(text: str, host: str, host_port: int, guest: str | None, guest_port: int) -> None:
    forward = parse(text)
    assert forward.protocol == text[:3].lower()
    assert (str(forward.host), forward.host_port, forward.guest_port) == (host, host_port, guest_port)
    assert forward.guest == (None if guest is None else ip_address(guest))
    assert parse(str(forward)) == forward


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "begins with tcp: or udp:"),
        ("2222:22", "begins with tcp: or udp:"),
        ("sctp:2222:22", "begins with tcp: or udp:"),
        ("tcp", "a port is missing"),
        ("tcp:2222", "a port is missing"),
        ("tcp:2222:", "'' is no IP address|a port is missing"),
        ("tcp:0:22", "'0' is no port from 1 to 65535"),
        ("tcp:65536:22", "'65536' is no port"),
        ("tcp:2222:99999999999999999999", "is no port"),
        ("tcp:2222:٢٢", "is no port"),
        ("tcp:localhost:2222:22", "'localhost' is no IP address"),
        ("tcp:127.0.0.256:2222:22", "'127.0.0.256' is no IP address"),
        ("tcp:2222:22:23", "what is '23'"),
        ("tcp:::1:2222:22", "no IP address|no port|a port is missing"),
        ("tcp:[::1:2222:22", "brackets"),
        ("tcp:[::1]2222:22", "brackets"),
        ("tcp:[fe80::1%eth0]:2222:22", "scope"),
        ("tcp:127.0.0.1:2222:[fec0::15]:22", "IPv4 is forwarded to IPv4 only"),
    ],
)
def test_forwards_that_cannot_be_read(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_the_networks_are_qemu_s() -> None:
    config = NatConfig()
    assert [str(address) for address in (config.host, config.dns, config.dhcp_start)] == [
        "10.0.2.2",
        "10.0.2.3",
        "10.0.2.15",
    ]
    assert (str(config.host6), str(config.dns6)) == ("fec0::2", "fec0::3")


@pytest.mark.parametrize("length", [8, 16, 24, 27])
def test_networks_with_room_for_what_dhcp_gives(length: int) -> None:
    config = NatConfig(network=IPv4Network(f"10.0.0.0/{length}"))
    assert config.dhcp_start + 15 < config.network.broadcast_address


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"network": IPv4Network("10.0.2.0/28")}, "from /8 to /27"),
        ({"network": IPv4Network("0.0.0.0/4")}, "from /8 to /27"),
        ({"ipv6": IPv6Network("fd00::/48")}, "has a prefix of /64"),
        ({"mtu": 1279}, "from 1280 to 65521"),
        ({"mtu": 65522}, "from 1280 to 65521"),
        ({"sockets": -1}, "number of sockets"),
        ({"forwards": (parse("tcp:1:2"), parse("tcp:1:3"))}, "forwarded twice"),
        ({"forwards": (parse("tcp:1:10.0.3.15:2"),)}, "is not in 10.0.2.0/24"),
        ({"forwards": (parse("tcp:1:10.0.2.2:2"),)}, "the NAT's own address"),
        ({"forwards": (parse("tcp:1:[fec1::1]:2"),)}, "is not in fec0::/64"),
        ({"forwards": (parse("tcp:[::1]:1:2"),), "ipv6": None}, "has no IPv6"),
    ],
)
def test_what_cannot_be(config: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        NatConfig(**config)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_the_same_port_of_both_protocols_and_families() -> None:
    texts = ("tcp:1:2", "udp:1:2", "tcp:[::1]:1:2", "tcp:127.0.0.2:1:2")
    assert len(NatConfig(forwards=tuple(parse(text) for text in texts)).forwards) == 4


def test_a_forward_made_by_hand_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="for tcp or udp"):
        Forward("icmp", 1, 2)
    with pytest.raises(ConfigError, match="the guest's port"):
        Forward("tcp", 1, 0)
