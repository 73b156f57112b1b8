"""A port's settings are changed by the words in which they are said at first."""

from __future__ import annotations

import pytest

from ringminus.errors import ConfigError
from ringminus.switch.link.changes import changed
from ringminus.switch.port import PortSettings
from support.endpoints import access, mac, trunk

BEFORE = PortSettings("web", mac(1), access(5), limit=10**8, dhcp_guard=True, mirror="source")
TRUNK = PortSettings("web", mac(1), trunk(1, 2, native=3))


def test_what_is_not_named_stays() -> None:
    assert changed(BEFORE, []) == BEFORE
    after = changed(BEFORE, ["link=down", "speed=1G", "router-guard"])
    assert after == PortSettings(
        "web", mac(1), access(5), False, 1000, 10**8, dhcp_guard=True, router_guard=True, mirror="source"
    )
    assert changed(after, ["link=up", "speed=10G", "router-guard=off"]) == BEFORE


def test_what_was_said_is_taken_away() -> None:
    words = ["vlan=none", "limit=none", "dhcp-guard=off", "mirror=off"]
    assert changed(BEFORE, words) == PortSettings("web", mac(1))
    assert changed(PortSettings(), words) == PortSettings()


def test_a_port_has_a_vlan_or_a_trunk() -> None:
    assert changed(BEFORE, ["trunk=1+2", "native=3"]).vlan == trunk(1, 2, native=3)
    assert changed(TRUNK, ["vlan=5"]).vlan == access(5)
    assert changed(TRUNK, ["trunk=7"]).vlan == trunk(7, native=3)
    assert changed(TRUNK, ["native=none"]).vlan == trunk(1, 2)
    assert changed(TRUNK, ["trunk=none"]).vlan == access(0)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["mac=00:15:5d:00:00:09"], "mac= is said where the port is made"),
        (["vlan=5", "vlan=6"], "vlan is there twice"),
        (["vlan=5", "trunk=6"], "either vlan= or trunk="),
        (["link=off"], "write link=up or link=down"),
        (["speed=none"], "write bits per second"),
        (["colour=off"], "there is no port option colour"),
        ([""], "there is no port option"),
    ],
)
def test_words_that_say_nothing(words: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        changed(BEFORE, words)
