"""The connection's end and its changes: UNLOAD, a second contact, pause, monitor pages, sockets."""

from __future__ import annotations

import pytest

from ringminus.vmbus.control.actions import TlConnect
from ringminus.vmbus.control.plane import ControlPlane, State
from ringminus.vmbus.wire import Version
from support.bus_script import MEMORY, Script, connected, guid, opened

PAUSE, MODIFY = 0x20, 4


# ------------------------------------------------------------ UNLOAD and a second contact


def test_unload_is_answered_even_if_nobody_is_connected() -> None:
    Script().play(
        """
        >> UNLOAD
        << UNLOAD_RESPONSE
        """
    )


def test_unload_closes_everything_before_it_is_answered() -> None:
    script = opened(offers=("disk", "net")).play(
        """
        >> GPADL_HEADER child_relid=2 gpadl=0x20 range_buflen=24 ranges=8192@0:1
        >> GPADL_HEADER child_relid=2 gpadl=0x21 pages=1
        << GpadlCreated net handle=0x21
        << GPADL_CREATED creation_status=0
        >> UNLOAD
        << Closed disk
        << GpadlTornDown disk handle=0x10
        << GpadlTornDown net handle=0x21
        << Unloaded
        << UNLOAD_RESPONSE
        >> GPADL_BODY gpadl=0x20 pages=2
        !! not connected
        """
    )
    assert script.control.state is State.DISCONNECTED


def test_unload_of_an_opening_channel_makes_the_devices_answer_void() -> None:
    opened().play(
        """
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        >> OPEN_CHANNEL child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        << OpenRequested disk
        >> UNLOAD
        << Closed disk
        << GpadlTornDown disk
        << Unloaded
        << UNLOAD_RESPONSE
        -- accept disk
        """
    )


def test_unload_forgets_what_is_rescinded() -> None:
    opened(offers=("disk", "net")).play(
        """
        -- rescind disk
        << RESCIND_OFFER child_relid=1
        -- rescind net
        << RESCIND_OFFER child_relid=2
        >> UNLOAD
        << Closed disk
        << GpadlTornDown disk
        << Released disk
        << Released net
        << Unloaded
        << UNLOAD_RESPONSE
        """
    )


def test_another_kernel_that_connects_finds_the_offers_and_nothing_of_the_first() -> None:
    """kexec, a crash kernel, or the firmware's hand-over: none of them unloads before."""
    script = opened(offers=("disk", "net")).play(
        """
        >> INITIATE_CONTACT version=4.1 vp=2
        << Closed disk
        << GpadlTornDown disk handle=0x10
        << Connected version=4.1
        << VERSION_RESPONSE version_supported=1
        >> CLOSE_CHANNEL child_relid=1
        !! unknown relid
        >> REQUEST_OFFERS
        << OFFER_CHANNEL if_instance=disk child_relid=1
        << OFFER_CHANNEL if_instance=net child_relid=2
        << ALL_OFFERS_DELIVERED
        >> GPADL child_relid=1 gpadl=0x10 pages=1-2    # handles begin anew
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        """
    )
    assert (script.control.version, script.control.target_vp) == (Version.WIN10_V4_1, 2)


def test_a_contact_that_fails_ends_the_connection_that_was() -> None:
    opened().play(
        """
        >> INITIATE_CONTACT version=9.9
        !! version not supported
        << Closed disk
        << GpadlTornDown disk handle=0x10
        << Unloaded
        << VERSION_RESPONSE version_supported=0
        """
    )


def test_what_is_offered_and_taken_back_while_nobody_is_connected() -> None:
    opened().play(
        """
        >> UNLOAD
        << Closed disk
        << GpadlTornDown disk
        << Unloaded
        << UNLOAD_RESPONSE
        -- offer net
        -- rescind disk
        << Released disk
        >> INITIATE_CONTACT version=5.3
        << Connected
        << VERSION_RESPONSE
        >> REQUEST_OFFERS
        << OFFER_CHANNEL if_instance=net child_relid=1
        << ALL_OFFERS_DELIVERED
        """
    )


# ------------------------------------------------------------ PAUSE and RESUME


def test_a_paused_host_holds_its_messages() -> None:
    script = opened("6.0", features=PAUSE).play(
        """
        >> PAUSE
        << PAUSE_RESPONSE
        << Paused
        -- offer net
        -- rescind disk
        >> CLOSE_CHANNEL child_relid=1
        !! paused
        >> PAUSE
        !! paused
        """
    )
    assert script.control.state is State.PAUSED
    script.play(
        """
        >> RESUME
        << Resumed
        << OFFER_CHANNEL if_instance=net child_relid=2
        << RESCIND_OFFER child_relid=1
        >> RESUME
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        """
    )


def test_a_device_that_answers_while_paused_is_heard_afterwards() -> None:
    opened("6.0", features=PAUSE).play(
        """
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        >> OPEN_CHANNEL child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        << OpenRequested disk
        >> PAUSE
        << PAUSE_RESPONSE
        << Paused
        -- accept disk
        >> RESUME
        << Resumed
        << OPEN_CHANNEL_RESULT child_relid=1 status=0
        """
    )


@pytest.mark.parametrize(
    ("message", "answers"),
    [
        ("UNLOAD", "<< Unloaded\n<< UNLOAD_RESPONSE"),
        ("INITIATE_CONTACT version=5.3", "<< Connected\n<< VERSION_RESPONSE"),
    ],
)
def test_what_is_held_is_void_when_the_guest_goes(message: str, answers: str) -> None:
    connected("6.0", features=PAUSE).play(
        f"""
        >> PAUSE
        << PAUSE_RESPONSE
        << Paused
        -- offer net
        >> {message}
        {answers}
        """
    )


@pytest.mark.parametrize(("version", "features"), [("5.3", 0), ("6.0", 0), ("6.0", MODIFY)])
def test_a_message_that_was_not_agreed_on_does_not_exist(version: str, features: int) -> None:
    connected(version, features=features).play(
        """
        >> PAUSE
        !! not in this version
        >> RESUME
        !! not in this version
        """
    )


# ------------------------------------------------------------ MODIFY_CONNECTION


def test_a_guest_of_6_0_may_change_its_monitor_pages() -> None:
    connected("6.0", features=MODIFY).play(
        """
        >> MODIFY_CONNECTION parent_to_child_monitor_page=0x1000 child_to_parent_monitor_page=0x2000
        << MonitorPages parent_to_child=0x1000 child_to_parent=0x2000
        << MODIFY_CONNECTION_RESPONSE connection_state=SUCCESSFUL
        -- offer sound monitor_id=3
        << OFFER_CHANNEL monitor_allocated=1 monitorid=3
        >> MODIFY_CONNECTION parent_to_child_monitor_page=0x1000
        !! bad monitor pages
        << MODIFY_CONNECTION_RESPONSE connection_state=FAILED_UNKNOWN_FAILURE
        >> MODIFY_CONNECTION parent_to_child_monitor_page=0x1000 child_to_parent_monitor_page=0x4000000
        !! bad monitor pages
        << MODIFY_CONNECTION_RESPONSE connection_state=FAILED_UNKNOWN_FAILURE
        >> MODIFY_CONNECTION
        << MonitorPages parent_to_child=none child_to_parent=none
        << MODIFY_CONNECTION_RESPONSE connection_state=SUCCESSFUL
        -- offer video monitor_id=4
        << OFFER_CHANNEL monitor_allocated=0
        """
    )


def test_the_hosts_monitor_pages_are_not_changed() -> None:
    Script(ControlPlane(MEMORY.is_ram, 1, monitor_pages=(0x5000, 0x6000))).play(
        """
        >> INITIATE_CONTACT version=6.0 features=0x44
        << Connected
        << MonitorPages
        << VERSION_RESPONSE
        >> MODIFY_CONNECTION parent_to_child_monitor_page=0x1000 child_to_parent_monitor_page=0x2000
        !! bad monitor pages
        << MODIFY_CONNECTION_RESPONSE connection_state=FAILED_UNKNOWN_FAILURE
        """
    )


# ------------------------------------------------------------ TL_CONNECT


@pytest.mark.parametrize("version", ["4.1", "5.3", "6.0"])
def test_a_socket_that_nobody_serves_is_refused(version: str) -> None:
    script = connected(version).play(
        """
        >> TL_CONNECT_REQUEST guest_endpoint_id=endpoint host_service_id=service
        << TlConnect endpoint=endpoint service=service silo=none
        """
    )
    actions = script.control.tl_connect_result(guid("endpoint"), guid("service"))
    (seen,) = (script._seen(action) for action in actions)
    assert seen[""] == "TL_CONNECT_RESULT"
    assert (seen["guest_endpoint_id"], seen["status"]) == (guid("endpoint").bytes_le, 0xC0000236)


def test_a_guest_of_4_0_is_not_told_that_its_socket_is_refused() -> None:
    script = connected("4.0").play(
        """
        >> TL_CONNECT_REQUEST guest_endpoint_id=endpoint host_service_id=service
        << TlConnect
        """
    )
    assert script.control.tl_connect_result(guid("endpoint"), guid("service")) == []


@pytest.mark.parametrize(("version", "silo"), [("5.1", None), ("5.2", "silo"), ("6.0", "silo")])
def test_a_silo_is_told_from_5_2_on_if_the_message_has_room(version: str, silo: str | None) -> None:
    script = connected(version)
    fields = {"guest_endpoint_id": "endpoint", "host_service_id": "service"}
    (payload,) = script.payloads("TL_CONNECT_REQUEST", fields)
    (action,) = script.control.receive(payload + guid("silo").bytes_le)
    assert action == TlConnect(guid("endpoint"), guid("service"), None if silo is None else guid(silo))


def test_sockets_came_with_4_0() -> None:
    connected("3.0").play(
        """
        >> TL_CONNECT_REQUEST guest_endpoint_id=endpoint host_service_id=service
        !! not in this version
        """
    )
