"""A port's settings as words and as plain data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ringminus.errors import ConfigError
from ringminus.switch.port import PortSettings, VlanMode
from ringminus.switch.settings import (
    check_settings,
    format_port_options,
    from_dict,
    parse_port_options,
    to_dict,
)
from support.endpoints import mac

FULL = PortSettings(
    name="web eth0",
    address=mac(0x010203),
    vlan=VlanMode(5, frozenset({1, 10, 11, 12, 4094})),
    link=False,
    megabits=2500,
    limit=1_500_000,
    spoofing=True,
    dhcp_guard=True,
    router_guard=True,
    mirror="source",
)
WORDS = [
    "name=web eth0",
    "mac=00:15:5d:01:02:03",
    "trunk=1+10-12+4094",
    "native=5",
    "limit=1500k",
    "speed=2500M",
    "spoofing",
    "dhcp-guard",
    "router-guard",
    "mirror=source",
    "link=down",
]


def test_all_words_and_back() -> None:
    assert parse_port_options(WORDS) == parse_port_options(reversed(WORDS)) == FULL
    assert format_port_options(FULL) == WORDS


def test_no_words_are_the_defaults_and_back() -> None:
    assert parse_port_options([]) == PortSettings()
    assert format_port_options(PortSettings()) == []


@pytest.mark.parametrize(
    "word, field, value",
    [
        ("vlan=5", "vlan", VlanMode(5)),
        ("trunk=1+10-20", "vlan", VlanMode(0, frozenset({1, *range(10, 21)}))),
        ("trunk=1-4094", "vlan", VlanMode(0, frozenset(range(1, 4095)))),
        ("limit=100M", "limit", 100_000_000),
        ("limit=100m", "limit", 100_000_000),
        ("limit=1.5G", "limit", 1_500_000_000),
        ("limit=64000", "limit", 64_000),
        ("limit=64kbit", "limit", 64_000),
        ("speed=10G", "megabits", 10_000),
        ("speed=1000000", "megabits", 1),
        ("speed=2.5G", "megabits", 2500),
        ("mirror=destination", "mirror", "destination"),
        ("link=up", "link", True),
        ("mac=00-15-5D-01-02-03", "address", mac(0x010203)),
        ("mac=00155D010203", "address", mac(0x010203)),
    ],
)
def test_a_word(word: str, field: str, value: object) -> None:
    assert getattr(parse_port_options([word]), field) == value


@pytest.mark.parametrize(
    "words, says",
    [
        (["vlan=0"], "write a VLAN id from 1 to 4094, such as vlan=5"),
        (["vlan=4095"], "from 1 to 4094"),
        (["vlan=five"], "vlan=five: write a VLAN id"),
        (["vlan=٥"], "write a VLAN id"),
        (["vlan"], "write a VLAN id"),
        (["trunk="], "such as trunk=1.10-20"),
        (["trunk=1,2"], "such as trunk=1.10-20"),
        (["trunk=20-10"], "such as trunk=1.10-20"),
        (["trunk=0-5"], "from 1 to 4094"),
        (["trunk=1+"], "such as"),
        (["native=5"], "write trunk= with its VLANs too, or vlan="),
        (["vlan=5", "trunk=6"], "either vlan= or trunk=; write native="),
        (["trunk=6", "native=0"], "native=0: write a VLAN id"),
        (["limit=fast"], "limit=fast: write bits per second, such as limit=100M"),
        (["limit=100MB"], "write bits per second"),
        (["limit=-5"], "write bits per second"),
        (["limit=0"], "write a limit from 8k to 1000G"),
        (["limit=5T"], "write bits per second"),
        (["limit=0.0001k"], "write bits per second"),
        (["limit=999999999999999G"], "from 8k"),
        (["speed=1500k"], "whole megabits"),
        (["speed=0"], "from 1M to 1000G"),
        (["speed=2000G"], "from 1M to 1000G"),
        (["spoofing=yes"], "write spoofing alone"),
        (["dhcpguard"], "no port option dhcpguard; there are spoofing, dhcp-guard"),
        ([""], "no port option ''"),
        (["=5"], "no port option '=5'"),
        (["mirror=both"], "write mirror=source or mirror=destination"),
        (["link=off"], "write link=up or link=down"),
        (["name="], "write a name"),
        (["name=" + "x" * 65], "at most 64"),
        (["name=a\nb"], "printable"),
        (["mac=00:15:5d:01:02"], "write six bytes in hexadecimal, such as mac=00:15:5d:01:02:03"),
        (["mac=00:15-5d:01:02:03"], "six bytes"),
        (["mac=00:15:5d:01:02:0g"], "six bytes"),
        (["mac=01:15:5d:01:02:03"], "group's address; write one whose first byte is even"),
        (["mac=00:00:00:00:00:00"], "zero is no address"),
        (["vlan=5", "vlan=5"], "vlan is there twice"),
        (["spoofing", "spoofing"], "spoofing is there twice"),
    ],
)
def test_a_wrong_word_says_what_to_write(words: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_port_options(words)
    message = str(caught.value)
    assert says.replace("1.10", "1+10") in message
    assert "\n" not in message.replace("a\nb", "")


# ------------------------------------------------------------------ plain data


@pytest.mark.parametrize("settings", [PortSettings(), FULL])
def test_plain_data_and_back(settings: PortSettings) -> None:
    assert from_dict(json.loads(json.dumps(to_dict(settings)))) == settings


def test_plain_data_says_all() -> None:
    assert to_dict(FULL) == {
        "name": "web eth0",
        "address": "00:15:5d:01:02:03",
        "vlan": {"access": 5, "trunk": [1, 10, 11, 12, 4094]},
        "link": False,
        "megabits": 2500,
        "limit": 1_500_000,
        "spoofing": True,
        "dhcp_guard": True,
        "router_guard": True,
        "mirror": "source",
    }


def test_what_is_not_there_is_the_default() -> None:
    assert from_dict({}) == PortSettings()
    assert from_dict({"vlan": {"access": 7}}) == PortSettings(vlan=VlanMode(7))


@pytest.mark.parametrize(
    "data, says",
    [
        (None, "an object"),
        ([], "an object"),
        ({"speed": 5}, "has no speed"),
        ({5: 5}, "has no 5"),
        ({"name": 5}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"address": 5}, "address is text"),
        ({"address": "00"}, "six bytes"),
        ({"address": "01:00:00:00:00:01"}, "group"),
        ({"vlan": 5}, "vlan is an object"),
        ({"vlan": {"native": 5}}, "vlan has no native"),
        ({"vlan": {"access": 4095}}, "vlan.access"),
        ({"vlan": {"access": True}}, "vlan.access"),
        ({"vlan": {"access": None}}, "vlan.access"),
        ({"vlan": {"trunk": "1-5"}}, "vlan.trunk is a list"),
        ({"vlan": {"trunk": [1.0]}}, "vlan.trunk is a list"),
        ({"vlan": {"trunk": [0]}}, "vlan.trunk is from 1"),
        ({"vlan": {"trunk": [[]]}}, "vlan.trunk is a list"),
        ({"link": 1}, "link is true or false"),
        ({"spoofing": "yes"}, "spoofing is true or false"),
        ({"megabits": 0}, "megabits"),
        ({"megabits": 10.0}, "megabits"),
        ({"limit": 5}, "limit"),
        ({"limit": False}, "limit"),
        ({"limit": -1}, "limit"),
        ({"mirror": "both"}, "mirror"),
        ({"mirror": None}, "mirror"),
        ({"mirror": []}, "mirror"),
    ],
)
def test_wrong_data_is_refused_by_name(data: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        from_dict(data)


def test_settings_made_by_hand_are_checked_too() -> None:
    for wrong in (PortSettings(address=b"\x00"), PortSettings(address=b""), PortSettings(vlan=VlanMode(-1))):
        with pytest.raises(ConfigError):
            check_settings(wrong)
