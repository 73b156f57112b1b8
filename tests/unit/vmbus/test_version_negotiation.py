"""INITIATE_CONTACT and its answer, for every version that a guest may try. See `support.bus_script`."""

from __future__ import annotations

import pytest

from ringminus.vmbus.control.actions import Send
from ringminus.vmbus.control.plane import ControlPlane, State
from ringminus.vmbus.wire import Feature, Version
from support.bus_script import MEMORY, Script, guid

VERSIONS = ["2.4", "3.0", "4.0", "4.1", "5.0", "5.1", "5.2", "5.3", "6.0"]
SIZES = {"6.0": 20}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_accepted_with_an_answer_of_its_size(version: str) -> None:
    script = Script()
    connection = 4 if version >= "5" else 1
    word = connection if version >= "5" else version  # before 5.0 the version that was selected
    script.play(
        f"""
        >> INITIATE_CONTACT version={version}
        << Connected version={version} features=0
        << VERSION_RESPONSE version_supported=1 connection_state=SUCCESSFUL msg_conn_id={word}
        """
    )
    assert script.control.state is State.CONNECTED
    assert script.control.message_connection == connection
    (answer,) = [
        action
        for action in script.control.receive(script.payloads("INITIATE_CONTACT", {"version": version})[0])
        if isinstance(action, Send)
    ]
    assert len(answer.payload) == SIZES.get(version, 16)


def test_the_list_above_is_all_versions() -> None:
    assert len(VERSIONS) == len(Version)


@pytest.mark.parametrize("version", ["0.13", "1.1", "2.5", "5.4", "6.1", "7.0", "65535.65535"])
def test_other_versions_are_refused_with_an_answer_for_the_guest_waits_for_one(version: str) -> None:
    script = Script().play(
        f"""
        >> INITIATE_CONTACT version={version}
        !! version not supported
        << VERSION_RESPONSE version_supported=0 to_vp=0 to_sint=2
        """
    )
    assert script.control.state is State.DISCONNECTED
    assert script.control.version is None


def test_a_guest_that_tries_one_version_after_the_other_ends_with_the_first_that_we_speak() -> None:
    script = Script().play(
        """
        >> INITIATE_CONTACT version=6.1
        !! version not supported
        << VERSION_RESPONSE version_supported=0
        >> INITIATE_CONTACT version=6.0 features=0x10
        << Connected version=6.0 features=0
        << VERSION_RESPONSE version_supported=1 supported_features=0
        """
    )
    assert script.control.version == Version.COPPER


def test_features_are_those_that_both_have() -> None:
    Script().play(
        """
        >> INITIATE_CONTACT version=6.0 features=0xffffffff client_id=client
        << Connected features=0x2f    # no confidential channels, no pinning, no monitor pages of ours
        << VERSION_RESPONSE supported_features=0x2f
        >> INITIATE_CONTACT version=6.0 features=0x24
        << Connected features=0x24
        << VERSION_RESPONSE supported_features=0x24
        >> INITIATE_CONTACT version=5.3 features=0xffffffff
        << Connected version=5.3 features=0
        << VERSION_RESPONSE version_supported=1
        """
    )


def test_a_guest_of_6_0_may_name_itself_and_must_if_it_says_so() -> None:
    script = Script().play(
        """
        >> INITIATE_CONTACT version=6.0 features=8 client_id=client
        << Connected
        << VERSION_RESPONSE supported_features=8
        """
    )
    assert script.control.client_id == guid("client")
    script.play(
        """
        >> INITIATE_CONTACT version=6.0 features=8    # the short message has no room for a name
        !! no client id
        << Unloaded
        << VERSION_RESPONSE version_supported=0
        """
    )


def test_guests_before_3_0_take_messages_on_the_first_processor_only() -> None:
    script = Script()
    for version, vp in (("2.4", 0), ("3.0", 3), ("6.0", 3)):
        script.control.receive(script.payloads("INITIATE_CONTACT", {"version": version, "vp": "3"})[0])
        assert script.control.target_vp == vp


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        ("vp=4", "to_vp=0 to_sint=2"),
        ("vp=0xffffffff", "to_vp=0 to_sint=2"),
        ("vp=1 sint=5", "to_vp=1 to_sint=5"),
        ("vp=1 sint=77", "to_vp=1 to_sint=2"),
        ("vp=1 vtl=2", "to_vp=1 to_sint=2"),
    ],
)
def test_a_contact_for_another_target_is_refused_there_and_leaves_the_connection_alone(
    fields: str, target: str
) -> None:
    script = Script().play(
        f"""
        >> INITIATE_CONTACT version=5.3
        << Connected
        << VERSION_RESPONSE version_supported=1
        >> INITIATE_CONTACT version=5.2 {fields}
        !! no such processor, SINT or VTL
        << VERSION_RESPONSE version_supported=0 {target}
        """
    )
    assert script.control.version == Version.WIN10_V5_3


def test_the_first_half_of_an_old_guests_interrupt_page_is_no_sint() -> None:
    Script().play(
        """
        >> INITIATE_CONTACT version=4.1 sint=77 vtl=3
        << Connected version=4.1
        << VERSION_RESPONSE version_supported=1
        """
    )


def test_a_contact_by_the_old_connection_names_no_sint() -> None:
    script = Script()
    (payload,) = script.payloads("INITIATE_CONTACT", {"version": "5.3", "sint": "77", "vtl": "3"})
    script.control.receive(payload, connection_id=1)
    assert script.control.version == Version.WIN10_V5_3


# ------------------------------------------------------------ monitor pages


def test_a_guests_monitor_pages_are_told_and_taken_back() -> None:
    Script().play(
        """
        >> INITIATE_CONTACT version=5.3 monitor_page1=0x1000 monitor_page2=0x2000
        << Connected
        << MonitorPages parent_to_child=0x1000 child_to_parent=0x2000
        << VERSION_RESPONSE version_supported=1
        >> INITIATE_CONTACT version=5.3
        << MonitorPages parent_to_child=none child_to_parent=none
        << Connected
        << VERSION_RESPONSE version_supported=1
        """
    )


@pytest.mark.parametrize(
    "pages",
    [
        "monitor_page1=0x1000",
        "monitor_page2=0x1000",
        "monitor_page1=0x1000 monitor_page2=0x2001",
        "monitor_page1=0x1000 monitor_page2=0x4000000",
        "monitor_page1=0xfffffffffffff000 monitor_page2=0x1000",
    ],
    ids=["one", "the other one", "unaligned", "beyond RAM", "beyond everything"],
)
@pytest.mark.parametrize("version", ["4.0", "6.0"])
def test_a_contact_with_wrong_monitor_pages_fails_in_its_version(version: str, pages: str) -> None:
    script = Script().play(
        f"""
        >> INITIATE_CONTACT version={version} {pages}
        !! bad monitor pages
        << VERSION_RESPONSE version_supported=1 connection_state=FAILED_UNKNOWN_FAILURE
        """
    )
    assert script.control.state is State.DISCONNECTED


def test_the_hosts_monitor_pages_go_to_guests_that_take_them() -> None:
    control = ControlPlane(MEMORY.is_ram, 1, monitor_pages=(0x5000, 0x6000))
    script = Script(control).play(
        """
        >> INITIATE_CONTACT version=6.0 features=0x40 monitor_page1=1    # its own do not count
        << Connected features=0x40
        << MonitorPages parent_to_child=0x5000 child_to_parent=0x6000
        << VERSION_RESPONSE supported_features=0x40 parent_to_child_monitor_page=0x5000 \
           child_to_parent_monitor_page=0x6000
        >> INITIATE_CONTACT version=6.0 features=0x20 monitor_page1=0x1000 monitor_page2=0x2000
        << MonitorPages parent_to_child=none
        << Connected features=0x20
        << MonitorPages parent_to_child=0x1000 child_to_parent=0x2000
        << VERSION_RESPONSE supported_features=0x20
        """
    )
    (payload,) = script.payloads("INITIATE_CONTACT", {"version": "6.0", "features": "0x40"})
    *_, answer = script.control.receive(payload)
    assert isinstance(answer, Send) and len(answer.payload) == 40


def test_a_host_without_a_parent_to_child_page_says_so() -> None:
    Script(ControlPlane(MEMORY.is_ram, 1, monitor_pages=(0, 0x6000))).play(
        """
        >> INITIATE_CONTACT version=6.0 features=0x40
        << Connected
        << MonitorPages parent_to_child=none child_to_parent=0x6000
        << VERSION_RESPONSE parent_to_child_monitor_page=0 child_to_parent_monitor_page=0x6000
        """
    )


def test_a_host_may_have_the_features_of_an_isolated_guest() -> None:
    features = Feature.CONFIDENTIAL_CHANNELS | Feature.GPA_PINNING
    Script(ControlPlane(MEMORY.is_ram, 1, features=features)).play(
        """
        >> INITIATE_CONTACT version=6.0 features=0xbf
        << Connected features=0x90
        << VERSION_RESPONSE supported_features=0x90
        """
    )
