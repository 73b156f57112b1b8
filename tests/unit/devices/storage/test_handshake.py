"""vmstor's handshake as a script: this request in, this answer out."""

from __future__ import annotations

import pytest

from ringminus.devices.storage.handshake import Handshake, OutOfOrder, Reply, State
from ringminus.devices.storage.wire import (
    MAX_TRANSFER,
    VERSIONS,
    ChannelProperties,
    NtStatus,
    Operation,
    ProtocolVersion,
    SubChannelCount,
    VstorPacket,
)

BEGIN, END = Operation.BEGIN_INITIALIZATION, Operation.END_INITIALIZATION
VERSION, PROPERTIES = Operation.QUERY_PROTOCOL_VERSION, Operation.QUERY_PROPERTIES
CREATE = Operation.CREATE_SUB_CHANNELS
ORDER = (BEGIN, VERSION, PROPERTIES, END)
STATES = (State.BEGIN, State.VERSION, State.PROPERTIES, State.END, State.READY)


def send(handshake: Handshake, operation: int, body: bytes = b"") -> Reply:
    if operation == VERSION and not body:
        body = version(VERSIONS[0])
    return handshake.receive(VstorPacket(operation=operation, body=body))


def version(number: int) -> bytes:
    return ProtocolVersion(major_minor=number).pack()


def subchannels(count: int) -> bytes:
    return SubChannelCount(count=count).pack()


def handshake_in(state: State, max_subchannels: int = 0) -> Handshake:
    handshake = Handshake(max_subchannels)
    for operation in ORDER[: STATES.index(state)]:
        send(handshake, operation)
    assert handshake.state is state
    return handshake


@pytest.mark.parametrize("number", VERSIONS)
def test_a_guest_of_each_version_gets_through(number: int) -> None:
    handshake = Handshake()
    assert send(handshake, BEGIN) == Reply()
    assert send(handshake, VERSION, version(number)) == Reply(body=version(number))
    assert send(handshake, PROPERTIES).status == NtStatus.SUCCESS
    assert send(handshake, END) == Reply()
    assert (handshake.state, handshake.version) == (State.READY, number)


@pytest.mark.parametrize("number", (0x0402, 0x0200, 0x0603, 0x0500, 0, 0xFFFF))
def test_other_versions_are_refused_and_the_guest_may_ask_for_the_next(number: int) -> None:
    handshake = handshake_in(State.VERSION)
    assert send(handshake, VERSION, version(number)).status == 0xC0000059
    assert handshake.state is State.VERSION
    assert send(handshake, VERSION, version(0x0501)).status == NtStatus.SUCCESS


def test_properties_tell_of_sub_channels_only_where_there_are_some() -> None:
    one = ChannelProperties.unpack(send(handshake_in(State.PROPERTIES), PROPERTIES).body)
    assert (one.flags, one.max_channel_count, one.max_transfer_bytes) == (0, 0, MAX_TRANSFER)
    many = ChannelProperties.unpack(send(handshake_in(State.PROPERTIES, 7), PROPERTIES).body)
    assert (many.flags, many.max_channel_count, many.max_transfer_bytes) == (1, 7, MAX_TRANSFER)


@pytest.mark.parametrize("state", STATES)
def test_what_a_state_does_not_await_is_an_error_that_names_both(state: State) -> None:
    awaited = {State.READY: CREATE}.get(state) or ORDER[STATES.index(state)]
    for operation in set(range(16)) - {awaited}:
        handshake = handshake_in(state)
        with pytest.raises(OutOfOrder, match=f"in state {state.name}") as caught:
            send(handshake, operation)
        named = Operation(operation).name if operation in set(Operation) else str(operation)
        assert named in str(caught.value)
        assert handshake.state is state


def test_sub_channels_are_granted_once_and_up_to_the_limit() -> None:
    handshake = handshake_in(State.READY, 4)
    assert send(handshake, CREATE, subchannels(5)) == Reply(NtStatus.INVALID_PARAMETER)
    assert send(handshake, CREATE, subchannels(3)) == Reply(subchannels=3)
    assert send(handshake, CREATE, subchannels(1)) == Reply(NtStatus.INVALID_PARAMETER)
    assert handshake.subchannels == 3


@pytest.mark.parametrize("state", STATES)
def test_any_state_is_the_same_when_restored(state: State) -> None:
    handshake, again = handshake_in(state), Handshake()
    again.restore(handshake.save())
    assert (again.state, again.version, again.subchannels) == (
        handshake.state,
        handshake.version,
        handshake.subchannels,
    )
