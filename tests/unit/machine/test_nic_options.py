"""What `--nic` says is what the adapter gets; what it cannot mean is refused with what to write instead."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from ringminus.errors import ConfigError
from ringminus.machine.nics import MICROSOFT, NicConfig, parse_nic, parse_nics
from ringminus.switch.nat.forwards import Forward
from ringminus.switch.port import PortSettings, VlanMode


def test_nat_without_options_leaves_all_as_it_is() -> None:
    assert parse_nic("nat") == NicConfig("nat")
    assert parse_nic("none") == NicConfig("none")


def test_options_of_the_port_and_of_nat_are_told_apart() -> None:
    config = parse_nic(
        "nat,forward=tcp:2222:22,vlan=5,forward=udp:0.0.0.0:53:10.9.0.15:53,net=10.9.0.0/24,ipv6=off,"
        "restrict,mac=00:15:5d:00:00:07,limit=100M,spoofing,link=down"
    )
    address = bytes.fromhex("00155d000007")
    assert config.settings == PortSettings(
        address=address, vlan=VlanMode(5), limit=100_000_000, spoofing=True, link=False
    )
    assert config.nat is not None
    assert config.nat.forwards == (
        Forward("tcp", 2222, 22),
        Forward("udp", 53, 53, IPv4Address("0.0.0.0"), IPv4Address("10.9.0.15")),
    )
    assert (config.nat.network, config.nat.ipv6) == (IPv4Network("10.9.0.0/24"), None)
    assert config.nat.restrict


def test_a_tap_device_and_a_switch_have_names() -> None:
    assert parse_nic("tap").name == ""
    assert parse_nic("tap:vm7").name == "vm7"
    assert parse_nic("switch:lab,trunk=5-7,native=2").settings.vlan == VlanMode(2, frozenset((5, 6, 7)))


def test_on_a_shared_network_the_address_is_random_and_stays() -> None:
    """A guest that restarts is built from the same configuration."""
    first, second = parse_nic("switch:lab").settings.address, parse_nic("switch:lab").settings.address
    assert first is not None and second is not None and first != second
    assert first.startswith(MICROSOFT) and second.startswith(MICROSOFT)
    assert parse_nic("tap,mac=02:00:00:00:00:01").settings.address == b"\2\0\0\0\0\1"


def test_a_comma_of_a_file_is_doubled() -> None:
    assert parse_nic("nat,capture=a,,b.pcap,vlan=3").capture == Path("a,b.pcap")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "say nat, tap, tap:NAME, switch:NAME or none"),
        ("bridge", "say nat, tap, tap:NAME, switch:NAME or none"),
        ("nat:home", "say nat, tap, tap:NAME, switch:NAME or none"),
        ("tap:", "say nat, tap, tap:NAME, switch:NAME or none"),
        ("switch", "such as --nic switch:lab"),
        ("switch:", "such as --nic switch:lab"),
        ("switch:../lab", "such as lab"),
        ("tap,forward=tcp:1:2", "forward is an option of nat"),
        ("switch:lab,net=10.0.0.0/8", "net is an option of nat"),
        ("none,vlan=5", "no options but mac="),
        ("none,capture=x", "no options but mac="),
        ("nat,forward=tcp:22", "in tcp:2222:22"),
        ("nat,forward=tcp:1:2,forward=tcp:1:3", "is forwarded twice"),
        ("nat,net=10.0.2.1/24", "such as net=10.0.2.0/24"),
        ("nat,net=home", "such as net=10.0.2.0/24"),
        ("nat,net=10.0.0.0/30", "from /8 to /27"),
        ("nat,restrict,restrict", "write it once"),
        ("nat,restrict=yes", "write restrict alone"),
        ("nat,ipv6", "write ipv6=off"),
        ("nat,capture=", "capture=FILE"),
        ("nat,capture=a,capture=b", "once"),
        ("nat,mac=01:00:00:00:00:00", "mac=01:00:00:00:00:00"),
        ("nat,colour=red", "there is no port option colour"),
        ("nat,", "there is no port option"),
    ],
)
def test_what_it_cannot_mean_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_nic(text)
    assert told in str(refused.value)
    assert f"--nic {text}: " in str(refused.value)


def test_eight_adapters_and_no_more() -> None:
    assert len(parse_nics(["nat"] * 8)) == 8
    with pytest.raises(ConfigError, match="up to 8 network adapters"):
        parse_nics(["nat"] * 9)
