"""Addons that do anything to any traffic: the host does not break, and works when they are gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import ringminus.cli.protocols  # noqa: F401
from ringminus.changes import ChangeError
from ringminus.cpu.engine import GuestException
from ringminus.devices.network.watched import messages
from ringminus.lens.addons.message import Message
from ringminus.lens.breakpoints.prompt import Prompt
from ringminus.lens.breakpoints.symbols import Symbols
from ringminus.lens.decode import Decoder
from ringminus.protocol import BY_INTERFACE, PROTOCOLS
from ringminus.tap import (
    BusMessage,
    DeviceMessage,
    Event,
    EventSignal,
    Hypercall,
    Interrupt,
    MsrAccess,
    RingPacket,
    SynicMessage,
)
from ringminus.vmbus.channel import OWED_LIMIT
from support.bus_bed import Bed, echo
from support.effort import examples
from support.guest_ring import GuestRingFull
from support.hypervisor import EOM
from support.reach import BedReach

SECOND = 10_000_000
KINDS: tuple[type[Event], ...] = (
    *(RingPacket, BusMessage, SynicMessage, EventSignal, Interrupt, Hypercall, MsrAccess),
)
FIELDS = (
    *("payload", "transaction_id", "block", "control", "input", "result", "value", "fault", "vector", "flag"),
    *("sint", "message_type", "relid", "sequence", "changed"),
)
STEPS = ("ask", "tell", "host tells", "look", "time", "poll", "signal", "msr", "call")
WORDS = """show hex data tree last continue next step edit drop delay duplicate answer inject break delete
    list registers set memory physical write stack help quit payload scsi.lba vmbus.message 0 1 -1 0x10
    $rip rax recorder guest host packet message interrupt signal completion 00ff zz"""
WILD: tuple[Any, ...] = (0, 1, -1, 1 << 70, b"", b"bytes", b"x" * 5000, "text", None, True, (1, 2))


@dataclass(frozen=True)
class Deed:
    """What an addon does with an event: a method with arguments, or a field and its value."""

    name: str
    value: Any = ()

    def do(self, event: Any) -> None:
        if self.name in ("drop", "delay", "duplicate", "answer"):
            getattr(event, self.name)(*self.value)
        else:
            setattr(event, self.name, self.value)


deeds = st.one_of(
    st.just(Deed("drop")),
    st.builds(Deed, st.just("delay"), st.tuples(st.sampled_from((0, 0.1, 1, 5000, -1)))),
    st.builds(Deed, st.just("duplicate"), st.tuples(st.integers(-1, 3))),
    st.builds(Deed, st.just("answer"), st.just(()) | st.tuples(st.binary(max_size=40) | st.integers(0, 99))),
    st.builds(
        Deed,
        st.sampled_from(FIELDS),
        st.sampled_from(WILD) | st.binary(max_size=60) | st.integers(0, 1 << 64),
    ),
)
plans = st.lists(st.tuples(st.sampled_from(KINDS), st.booleans(), st.lists(deeds, max_size=4)), max_size=4)
traffic = st.lists(st.sampled_from(STEPS), max_size=40)


class Scene:
    """A bus whose events addons change, and a guest that goes on with whatever it is given."""

    def __init__(self, plan: list[tuple[type[Event], bool, list[Deed]]]) -> None:
        self.bed = Bed()
        self.bed.device.answer = echo
        self.channel = self.bed.open()
        self.number = 0
        self.ends = []
        tap = self.bed.guest.partition.tap
        self.told: list[Event] = []
        for kind in KINDS:
            tap.listen(kind, self.told.append)
        for kind, before, wishes in plan:
            change = self._changer(wishes)
            self.ends.append(tap.change(kind, change, lambda _event, _error: None, before=before))

    @staticmethod
    def _changer(wishes: list[Deed]) -> Any:
        turn = [0]

        def change(event: Event) -> None:
            turn[0] += 1
            if wishes:
                wishes[turn[0] % len(wishes)].do(event)

        return change

    def step(self, what: str) -> None:
        guest, channel = self.bed.guest, self.channel
        self.number += 1
        try:
            if what in ("ask", "tell"):
                channel.send(b"x" * (self.number % 50), self.number, wants_completion=what == "ask")
            elif what == "host tells" and self.bed.device.open:
                self.bed.device.channel.send(b"host", self.number)
            elif what == "look":
                channel.receive()
            elif what == "time":
                guest.pass_time(SECOND // 3)
            elif what == "poll":
                guest.write(EOM, 0)
            elif what == "signal":
                guest.vp.synic.signal_event(2, self.number % 2048)
            elif what == "msr":
                guest.read(0x40000002)
            elif what == "call":
                guest.hypercall(0x8 | 1 << 16)
        except (GuestRingFull, GuestException):
            pass  # a ring that addons leave full, a fault that they give; never a mistake of the host's
        except ValueError as error:
            if "HvStatus" not in str(error):  # a result that they give, and the guest does not know
                raise

    def finish(self) -> None:
        """The addons go; all that was held back comes."""
        for end in self.ends:
            end()
        for _ in range(5):
            self.bed.guest.pass_time(3600 * SECOND)


@given(plan=plans, steps=traffic)
@settings(max_examples=examples(300), deadline=None)
def test_the_host_does_not_break_and_goes_on_without_them(
    plan: list[tuple[type[Event], bool, list[Deed]]], steps: list[str]
) -> None:
    scene = Scene(plan)
    for step in steps:
        scene.step(step)
    scene.finish()
    tap = scene.bed.guest.partition.tap
    assert tap.changers == {}
    numbers = [one.sequence for one in scene.told]
    assert len(set(numbers)) == len(numbers) and all(one.cause < one.sequence for one in scene.told)
    # a bus that was not spoilt by false messages serves a channel as before
    other, channel = scene.bed.second() if not _spoilt(plan) else (None, None)
    if other is not None and channel is not None:
        for number in range(OWED_LIMIT // 100):
            channel.send(b"after", number, wants_completion=True)
            assert [one.transaction_id for one in channel.receive()] == [number]


def _spoilt(plan: list[tuple[type[Event], bool, list[Deed]]]) -> bool:
    """Whether addons may have left the guest's driver without messages that it waits for."""
    return any(kind in (BusMessage, SynicMessage, Hypercall, MsrAccess, Interrupt) for kind, _, _ in plan)


# ---------------------------------------------------------------- decoded messages


interfaces = st.sampled_from(sorted(BY_INTERFACE, key=str))


@given(interface=interfaces, payload=st.binary(max_size=200), to_guest=st.booleans(), data=st.data())
@settings(max_examples=examples(300), deadline=None)
def test_any_field_of_any_message_can_be_set_to_anything(
    interface: Any, payload: bytes, to_guest: bool, data: st.DataObject
) -> None:
    """It is set, or refused; nothing but its bytes changes."""
    event = RingPacket(0, 0, 1, "device", to_guest, 6, 5, payload, (), interface)
    message = Message(event, Decoder())
    for fields in list(message):
        names = list(fields.fields())
        if not names:
            continue
        name = data.draw(st.sampled_from(names))
        value = data.draw(st.sampled_from(WILD) | st.binary(max_size=30) | st.integers(-1, 1 << 65))
        before = event.payload
        try:
            fields[name] = value
        except ChangeError:
            assert event.payload == before
            break
        assert name == "rest" or len(event.payload) == len(before)
        break


@given(kind=st.sampled_from(sorted(PROTOCOLS)), payload=st.binary(max_size=120))
@settings(max_examples=examples(200), deadline=None)
def test_device_messages_of_any_protocol(kind: str, payload: bytes) -> None:
    event = DeviceMessage(0, 0, "device", kind, False, payload, len(payload))
    message = Message(event, Decoder())
    assert isinstance(repr(message), str)
    for fields in message:
        assert isinstance(repr(fields), str)


@given(payload=st.binary(max_size=300))
@settings(max_examples=examples(300), deadline=None)
def test_rndis_messages_are_pieces_of_what_they_were_taken_from(payload: bytes) -> None:
    found = list(messages(payload))
    assert b"".join(one for one, _ in found) == payload
    assert all(0 <= shown <= len(one) for one, shown in found)


# ---------------------------------------------------------------- the prompt


class Deaf:
    """A terminal to which anything may be said."""

    colored = False

    def open(self, complete: Any) -> None: ...

    def close(self) -> None: ...

    def say(self, text: str) -> None:
        assert isinstance(text, str)

    def ask(self) -> str | None:
        return None


words = st.sampled_from([*WORDS.split(), "'", '"', "\\"])


@given(lines=st.lists(st.lists(words | st.text(max_size=8), max_size=5).map(" ".join), max_size=6))
@settings(max_examples=examples(200), deadline=None)
def test_any_words_at_the_prompt(lines: list[str]) -> None:
    bed = Bed()
    bed.device.answer = echo
    tap = bed.guest.partition.tap
    prompt = Prompt(tap, Deaf(), Symbols())
    prompt.reach = BedReach(bed)
    channel = bed.open()

    def at(event: RingPacket) -> None:
        prompt.event = event
        for line in lines:
            prompt.do(line)
            prompt.complete(line)

    def failed(_event: RingPacket, error: Exception) -> None:
        raise error

    prompt.points._met = lambda event, point: None
    tap.change(RingPacket, at, failed)
    channel.send(b"hello", 7, wants_completion=True)
