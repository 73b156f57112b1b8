"""The bus's control plane as a script: this message in, these messages out."""

from __future__ import annotations

import pytest

from ringminus.vmbus.control import ControlPlane, State, VmBusError
from ringminus.vmbus.messages import MESSAGES
from ringminus.vmbus.wire import (
    HeaderOnly,
    InitiateContact,
    MessageHeader,
    Version,
    VersionResponse,
    VersionResponseWithFeatures,
)
from ringminus.wire import ShortBuffer

REQUEST_OFFERS, ALL_OFFERS_DELIVERED, INITIATE_CONTACT, VERSION_RESPONSE = 3, 4, 14, 15
UNLOAD, UNLOAD_RESPONSE, GPADL_HEADER, PAUSE = 16, 17, 8, 27


def contact(version: int, vp: int = 0) -> bytes:
    return InitiateContact(
        header=MessageHeader(msgtype=INITIATE_CONTACT),
        vmbus_version_requested=version,
        target_vcpu=vp,
        interrupt_page=2,
        monitor_page1=0,
        monitor_page2=0,
    ).pack()


def plain(number: int) -> bytes:
    return HeaderOnly(header=MessageHeader(msgtype=number)).pack()


def types(answers: list[bytes]) -> list[int]:
    return [MessageHeader.unpack(answer).msgtype for answer in answers]


def connected(version: int = Version.WIN10_V5_3) -> ControlPlane:
    control = ControlPlane()
    control.receive(contact(version))
    return control


@pytest.mark.parametrize("version", list(Version))
def test_every_version_is_accepted(version: Version) -> None:
    control = ControlPlane()
    (answer,) = control.receive(contact(version))
    response = VersionResponse.unpack(answer)
    assert (response.header.msgtype, response.version_supported, response.connection_state) == (15, 1, 0)
    assert (control.state, control.version) == (State.CONNECTED, version)


def test_before_5_0_the_response_repeats_the_version_and_after_it_names_a_connection() -> None:
    assert (
        VersionResponse.unpack(ControlPlane().receive(contact(Version.WIN10))[0]).msg_conn_id == Version.WIN10
    )
    assert VersionResponse.unpack(ControlPlane().receive(contact(Version.WIN10_V5))[0]).msg_conn_id == 4


def test_version_6_is_told_that_there_are_no_features() -> None:
    (answer,) = ControlPlane().receive(contact(Version.COPPER))
    assert len(answer) == VersionResponseWithFeatures.SIZE == 20
    assert VersionResponseWithFeatures.unpack(answer).feature_flags == 0


def test_an_unknown_version_is_refused_with_an_answer_for_the_guest_waits_for_one() -> None:
    control = ControlPlane()
    (answer,) = control.receive(contact(7 << 16))
    assert VersionResponse.unpack(answer).version_supported == 0
    assert control.state is State.DISCONNECTED


def test_offers_end_at_once_as_there_is_none() -> None:
    control = connected()
    assert types(control.receive(plain(REQUEST_OFFERS))) == [ALL_OFFERS_DELIVERED]
    assert control.state is State.OFFERED


def test_offers_are_asked_for_once_and_only_when_connected() -> None:
    with pytest.raises(VmBusError, match="disconnected"):
        ControlPlane().receive(plain(REQUEST_OFFERS))
    control = connected()
    control.receive(plain(REQUEST_OFFERS))
    with pytest.raises(VmBusError, match="offered"):
        control.receive(plain(REQUEST_OFFERS))


def test_a_second_contact_starts_over() -> None:
    control = connected()
    control.receive(plain(REQUEST_OFFERS))
    control.receive(contact(Version.WIN8, vp=3))
    assert (control.state, control.version, control.target_vp) == (State.CONNECTED, Version.WIN8, 3)


@pytest.mark.parametrize(
    "before", [[], [contact(Version.WIN10)], [contact(Version.WIN10), plain(REQUEST_OFFERS)]]
)
def test_unload_is_answered_in_every_state(before: list[bytes]) -> None:
    control = ControlPlane()
    for message in before:
        control.receive(message)
    assert types(control.receive(plain(UNLOAD))) == [UNLOAD_RESPONSE]
    assert control.state is State.DISCONNECTED


@pytest.mark.parametrize("number", [0, 1, VERSION_RESPONSE, 30, 0xFFFFFFFF])
def test_what_no_guest_sends_is_an_error(number: int) -> None:
    with pytest.raises(VmBusError, match="none that a guest sends"):
        connected().receive(plain(number))


def test_messages_of_channels_are_errors_as_there_is_no_channel() -> None:
    with pytest.raises(VmBusError, match="GPADL_HEADER while no channel"):
        connected().receive(plain(GPADL_HEADER))


def test_a_message_newer_than_the_version_is_an_error() -> None:
    with pytest.raises(VmBusError, match=r"PAUSE does not exist in version 5\.3"):
        connected().receive(plain(PAUSE))


def test_short_and_long_messages_are_errors() -> None:
    with pytest.raises(ShortBuffer):
        ControlPlane().receive(contact(Version.WIN10)[:20])
    with pytest.raises(ShortBuffer):
        ControlPlane().receive(b"\x03")
    with pytest.raises(VmBusError, match="241 bytes"):
        ControlPlane().receive(bytes(241))


def test_the_table_has_all_29_messages() -> None:
    assert sorted(MESSAGES) == list(range(1, 30))


def test_the_state_survives_saving() -> None:
    control = connected()
    other = ControlPlane()
    other.restore(control.save())
    assert types(other.receive(plain(REQUEST_OFFERS))) == [ALL_OFFERS_DELIVERED]
