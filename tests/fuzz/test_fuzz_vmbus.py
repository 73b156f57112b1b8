"""Arbitrary messages in arbitrary orders: only typed errors come out, and the bus goes on."""

from __future__ import annotations

import struct
from functools import partial

from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from ringminus.cpu.engine import GuestException
from ringminus.errors import GuestError
from ringminus.hypervisor import wire as hypervisor
from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.synic import QUEUE_LIMIT
from ringminus.memory import GuestMemory
from ringminus.vmbus.bus import VmBus
from ringminus.vmbus.control import ControlPlane, State
from ringminus.vmbus.messages import MESSAGES
from ringminus.vmbus.wire import MESSAGE_SINT, PAYLOAD_LIMIT, InitiateContact, MessageHeader, Version
from support.hypervisor import EOM, MEMORY_SIZE, SCONTROL, SIM_PAGE, FakeEngine, Guest

MEMORY = GuestMemory(MEMORY_SIZE)
SLOT = SIM_PAGE + MESSAGE_SINT * hypervisor.MESSAGE_SIZE
POST_MESSAGE = 0x5C
U32, U64 = (1 << 32) - 1, (1 << 64) - 1

contacts = st.builds(
    lambda version, vp, words, tail: (
        InitiateContact(
            header=MessageHeader(msgtype=14),
            vmbus_version_requested=version,
            target_vcpu=vp,
            interrupt_page=words[0],
            monitor_page1=words[1],
            monitor_page2=words[2],
        ).pack()
        + tail
    ),
    st.sampled_from([int(version) for version in Version]) | st.integers(0, U32),
    st.integers(0, 3) | st.integers(0, U32),
    st.tuples(st.integers(0, U64), st.integers(0, U64), st.integers(0, U64)),
    st.sampled_from((b"", bytes(16), bytes(PAYLOAD_LIMIT - InitiateContact.SIZE))),
)
numbered = st.builds(
    lambda number, body: struct.pack("<II", number, 0) + body,
    st.sampled_from(sorted(MESSAGES)) | st.integers(0, 31) | st.integers(0, U32),
    st.just(b"") | st.binary(max_size=250),
)
messages = contacts | numbered | st.binary(max_size=250)
sequences = st.lists(messages, max_size=20)


def play(control: ControlPlane, sequence: list[bytes]) -> list[State]:
    """Hand the messages over, check the answers, and give the states that were seen."""
    seen = []
    for message in sequence:
        try:
            answers = control.receive(message)
        except GuestError:
            answers = []
        seen.append(control.state)
        for answer in answers:
            kind = MESSAGES[MessageHeader.unpack(answer).msgtype]
            assert not kind.from_guest and kind.structure is not None
            assert kind.structure.SIZE <= len(answer) <= PAYLOAD_LIMIT
    return seen


def reaches(state: State, sequence: list[bytes]) -> bool:
    return state in play(ControlPlane(), sequence)


@given(sequences)
def test_any_sequence_of_messages_gives_answers_or_typed_errors(sequence: list[bytes]) -> None:
    control = ControlPlane()
    play(control, sequence)
    assert (control.version is None) == (control.state is State.DISCONNECTED)


def test_the_sequences_reach_every_state() -> None:
    """Otherwise the tests here would only see refusals."""
    quick = settings(phases=[Phase.generate], derandomize=True, database=None, max_examples=1000)
    for state in State:
        assert find(sequences, partial(reaches, state), settings=quick)


@given(sequences, messages)
def test_any_reachable_state_behaves_the_same_when_restored(sequence: list[bytes], then: bytes) -> None:
    control, again = ControlPlane(), ControlPlane()
    play(control, sequence)
    again.restore(control.save())
    assert play(control, [then]) == play(again, [then])
    assert control.save() == again.save()


@given(sequences)
def test_a_guest_can_always_unload_and_connect_anew(sequence: list[bytes]) -> None:
    control = ControlPlane()
    play(control, sequence)
    (answer,) = control.receive(struct.pack("<II", 16, 0))
    assert MessageHeader.unpack(answer).msgtype == 17
    contact = struct.pack("<IIIIQQQ", 14, 0, Version.WIN10_V5_3, 0, 2, 0, 0)
    assert play(control, [contact, struct.pack("<II", 3, 0)]) == [State.CONNECTED, State.OFFERED]


steps = st.one_of(
    st.tuples(st.just("post"), st.sampled_from((1, 4)), st.sampled_from((1, 1, 1, 2, 0, U32)), messages),
    st.tuples(st.just("take")),
    st.tuples(st.just("synic"), st.sampled_from((0, 1))),
)


@given(st.lists(steps, max_size=60))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_hostile_guest_cannot_break_the_bus_through_its_hypercalls(
    sequence: list[tuple[object, ...]],
) -> None:
    guest = Guest(vp_count=2, engine=FakeEngine(memory=MEMORY))
    bus = VmBus(guest.partition)
    guest.memory.write(SIM_PAGE, bytes(4096))
    guest.name_itself()
    guest.enable_synic()
    for name, *arguments in sequence:
        if name == "take":
            guest.memory.write(SLOT, bytes(4))
            guest.write(EOM, 0)
        elif name == "synic":
            assert isinstance(arguments[0], int)
            guest.write(SCONTROL, arguments[0])
        else:
            connection, kind, payload = arguments
            assert isinstance(connection, int) and isinstance(kind, int) and isinstance(payload, bytes)
            header = struct.pack("<IIII", connection, 0, kind, len(payload))
            try:
                status = guest.call_with(POST_MESSAGE, (header + payload).ljust(256, b"\0"))
            except GuestException:
                continue
            assert status in (HvStatus.SUCCESS, HvStatus.INVALID_PARAMETER)
        assert guest.vp.synic.queued(MESSAGE_SINT) <= QUEUE_LIMIT
        assert set(bus.control.received) <= {kind.name for kind in MESSAGES.values()}
