"""The control plane under a guest and a host that do anything, in any order.

A guest sends messages of every kind, sensible and not, while the host offers, rescinds and answers. From
outside it is watched that no relid is used twice, that memory in use is RAM and the guest's to give, that the
guest hears nothing that its version does not know, that what is refused changes nothing, and that a copy made
from the saved state goes on in the same way.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ringminus.errors import ConfigError
from ringminus.vmbus.control import actions
from ringminus.vmbus.control.actions import Action, Send
from ringminus.vmbus.control.gpadl import BUDGET, GPADL_COST, RANGE_COST
from ringminus.vmbus.control.messages import MESSAGES
from ringminus.vmbus.control.offers import Offer, OfferKey
from ringminus.vmbus.control.plane import ControlPlane, State, VmBusError
from ringminus.vmbus.wire import Feature, Version
from support.bus_script import MEMORY, RAM, guid
from support.bus_watcher import Seen, Watcher
from support.effort import examples

U32, U64 = (1 << 32) - 1, (1 << 64) - 1
VPS, LAST_PAGE = 3, RAM // 4096 - 1
PAUSE = int(Feature.PAUSE_RESUME)
rarely = st.sampled_from((False,) * 7 + (True,))
sometimes = st.sampled_from((False, False, True))
handles = st.integers(1, 5) | st.integers(0, U32)
some_pages = st.lists(st.integers(0, LAST_PAGE), min_size=2, max_size=8)
wrong_pages = st.lists(st.sampled_from((LAST_PAGE, LAST_PAGE + 1, 1 << 52, U64)), min_size=2, max_size=8)
vps = st.integers(0, VPS - 1) | st.sampled_from((VPS, U32))
sints = st.sampled_from((2,) * 9 + (5, 16, U32))
versions = st.sampled_from([int(version) for version in Version] + [int(Version.COPPER)] * 6)
features = st.sampled_from((0, PAUSE, 0x25, 0x2F, 0x6F, 0xF7, U32))
monitor_pages = st.sampled_from(((0, 0), (0x1000, 0x2000), (0x1000, 0), (0x1001, 0x2000), (RAM, 0x1000)))


class Machine(RuleBasedStateMachine):
    """`watcher` gives an account of the actions, `twin` is a copy from the saved state."""

    seen: Seen | None = None

    def __init__(self) -> None:
        super().__init__()
        self.control = self.new()
        self.saved = self.control.save()
        self.twin: ControlPlane | None = None
        self.watcher = Watcher()

    def new(self) -> ControlPlane:
        everything = Feature(0xFF)
        return ControlPlane(MEMORY.is_ram, VPS, monitor_pages=(0x5000, 0x6000), features=everything)

    @initialize(version=st.sampled_from([int(version) for version in Version]), features=features)
    def two_devices_and_a_guest(self, version: int, features: int) -> None:
        """Where most sequences get sooner or later, so that none has to look for it."""
        for name in "ab":
            self.offered_by_name(name, None)
        info = 2 | features << 32
        self.send(struct.pack("<IIIIQQQ", 14, 0, version, 0, info, 0, 0) + bytes(16))
        self.message(3, "")

    # ------------------------------------------------------------ what both sides do

    def both(self, act: Callable[[ControlPlane], Any]) -> Any:
        """Do it to the control plane and to its copy, which must do the same."""
        result = _tried(self.control, act)
        if self.twin is not None:
            assert _tried(self.twin, act) == result
        return result

    def send(self, payload: bytes) -> list[Action] | None:
        """A guest's message: its actions, or None when it is refused without an answer."""
        before = self.saved
        made = self.both(lambda control: control.receive(payload))
        if made is not None:
            self.took(made)
        self.note()
        assert made is not None or self.saved == before, "what is refused changes nothing"
        return made  # type: ignore[no-any-return]

    def took(self, made: list[Action]) -> None:
        self.watcher.take(made)
        if self.seen is not None:
            self.seen.take(made)

    def note(self) -> None:
        self.saved = self.control.save()
        if self.seen is not None:
            self.seen.look(self.control, self.saved)

    def message(self, number: int, layout: str, *values: int) -> list[Action] | None:
        return self.send(struct.pack("<II" + layout, number, 0, *values))

    def relid(self, data: st.DataObject, known: Iterable[int] | None = None) -> int:
        """Mostly one that is `known`: without more, one that the guest has."""
        known = sorted(self.watcher.relids if known is None else known)
        if known and not data.draw(rarely):
            return data.draw(st.sampled_from(known))
        return data.draw(st.integers(0, 6) | st.integers(0, U32))

    def handle(self, data: st.DataObject, relid: int) -> int:
        """Mostly one of that channel's."""
        key = self.watcher.relids.get(relid)
        mine = sorted(handle for offer, handle in self.watcher.gpadls if offer == key)
        if mine and not data.draw(rarely):
            return data.draw(st.sampled_from(mine))
        return data.draw(handles)

    # ------------------------------------------------------------ the guest: connection

    @rule(version=versions | st.integers(0, U32), words=st.tuples(vps, features), data=st.data())
    def contact(self, version: int, words: tuple[int, int], data: st.DataObject) -> None:
        if self.busy and not data.draw(sometimes):
            return
        p2c, c2p = data.draw(monitor_pages)
        sint, vtl = data.draw(sints) & 0xFF, 2 * data.draw(rarely)
        client = b"" if data.draw(sometimes) else bytes(range(16))
        info = sint | vtl << 8 | words[1] << 32
        head = struct.pack("<IIIIQQQ", 14, 0, version, words[0], info, p2c, c2p)
        made = self.send(head + client)
        assert made is not None and isinstance(made[-1], Send), "the guest waits for an answer"

    @property
    def busy(self) -> bool:
        """A guest that goes at every other step would not get far."""
        return bool(self.watcher.relids)

    @rule(features=features)
    @precondition(lambda self: not self.busy)
    def connect_and_ask(self, features: int) -> None:
        """What every guest does, so that most sequences get somewhere."""
        info = 2 | features << 32
        self.send(struct.pack("<IIIIQQQ", 14, 0, Version.COPPER, 0, info, 0, 0) + bytes(16))
        made = self.message(3, "")
        assert made is not None and isinstance(made[-1], Send)

    @rule(data=st.data())
    def unload(self, data: st.DataObject) -> None:
        if self.busy and not data.draw(sometimes):
            return
        made = self.message(16, "")
        assert made is not None and isinstance(made[-1], Send), "a guest that panics waits for it"
        assert self.control.state is State.DISCONNECTED

    @rule(data=st.data())
    def pause_or_resume(self, data: st.DataObject) -> None:
        self.message(27 if data.draw(rarely) else 29, "")

    @rule(data=st.data())
    def less_common(self, data: st.DataObject) -> None:
        """One rule for what needs no luck to get somewhere."""
        act = data.draw(st.sampled_from((self.request_offers, self.modify_connection, self.tl_connect)))
        act(data)

    def request_offers(self, _data: st.DataObject) -> None:
        self.message(3, "")

    def modify_connection(self, data: st.DataObject) -> None:
        self.message(25, "QQ", *data.draw(monitor_pages))

    def tl_connect(self, data: st.DataObject) -> None:
        made = self.send(struct.pack("<II", 21, 0) + bytes(data.draw(st.sampled_from((32, 48)))))
        for action in made or ():
            if isinstance(action, actions.TlConnect):
                self.took(self.both(partial(_refuse, action)))

    @rule(
        payload=st.binary(max_size=250) | st.just(bytes(241)), number=st.sampled_from((0, *sorted(MESSAGES)))
    )
    def bytes_of_any_kind(self, payload: bytes, number: int) -> None:
        """A message with anything in it, or, with number 0, no message at all."""
        head = struct.pack("<II", number, 0) if number else b""
        relid = int.from_bytes(payload[:4], "little")
        made = self.send(head + payload)
        if number == 13 and made is not None:
            self.watcher.released(relid)

    # ------------------------------------------------------------ the guest: GPADLs

    @rule(data=st.data(), pages=some_pages | wrong_pages)
    def ring(self, data: st.DataObject, pages: list[int]) -> None:
        relid, handle = self.relid(data), data.draw(handles)
        words = struct.pack(f"<II{len(pages)}Q", 4096 * len(pages), 0, *pages)
        self.send(struct.pack("<IIIIHH", 8, 0, relid, handle, len(words), 1) + words)

    @rule(data=st.data(), half=st.booleans(), count=st.sampled_from((1, 1, 1, 0, 2, 3, 65535)))
    def ranges(self, data: st.DataObject, half: bool, count: int) -> None:
        words = b""
        for _ in range(min(count, 3)):
            size, offset = data.draw(st.integers(0, 9000)), data.draw(st.integers(0, 4097))
            pages = data.draw(st.lists(st.integers(0, LAST_PAGE + 1) | st.integers(0, U64), max_size=4))
            words += struct.pack(f"<II{len(pages)}Q", size, offset, *pages)
        said = len(words) + (data.draw(st.sampled_from((8, 16, 65000 - len(words)))) if half else 0)
        relid, handle = self.relid(data), data.draw(handles)
        self.send(struct.pack("<IIIIHH", 8, 0, relid, handle, said, count) + words)

    @rule(handle=handles, pages=st.lists(st.integers(0, LAST_PAGE + 1), max_size=28))
    def body(self, handle: int, pages: list[int]) -> None:
        self.send(struct.pack(f"<IIII{len(pages)}Q", 9, 0, 0, handle, *pages))

    @rule(data=st.data())
    def tear_down_gpadl(self, data: st.DataObject) -> None:
        relid = self.relid(data)
        handle = self.handle(data, relid)
        if self.message(11, "II", relid, handle):
            assert (self.watcher.relids[relid], handle) not in self.watcher.gpadls

    # ------------------------------------------------------------ the guest: channels

    @rule(data=st.data(), handle=handles, pages=some_pages, reserved=sometimes)
    @precondition(lambda self: self.idle_relids())
    def open_as_it_should_be(
        self, data: st.DataObject, handle: int, pages: list[int], reserved: bool
    ) -> None:
        relid, vp = data.draw(st.sampled_from(self.idle_relids())), data.draw(st.sampled_from((0, 1, U32)))
        words = struct.pack(f"<II{len(pages)}Q", 4096 * len(pages), 0, *pages)
        self.send(struct.pack("<IIIIHH", 8, 0, relid, handle, len(words), 1) + words)
        if reserved:
            self.message(18, "IIIII", relid, 0, 2, handle, 1)
        else:
            signal = data.draw(st.sampled_from((0, 9, 4)))
            self.send(struct.pack("<IIIIIII120sII", 5, 0, relid, 1, handle, vp, 1, b"", signal, 0))
        if data.draw(st.booleans()) and self.watcher.opening:
            self.answers(max(self.watcher.opening), True)

    def idle_relids(self) -> list[int]:
        used = self.watcher.opening.keys() | self.watcher.open.keys()
        return sorted(relid for relid, key in self.watcher.relids.items() if key not in used)

    @rule(data=st.data())
    @precondition(lambda self: self.watcher.opening or self.watcher.open)
    def want_the_ring_back(self, data: st.DataObject) -> None:
        uses = self.watcher.opening | self.watcher.open
        request = uses[data.draw(st.sampled_from(sorted(uses)))]
        self.message(11, "II", request.relid, request.gpadl.handle)

    @rule(data=st.data(), vp=vps, signal=st.sampled_from((0, 4, 9, 0x2001, 0x2002)))
    def open_channel(self, data: st.DataObject, vp: int, signal: int) -> None:
        relid = self.relid(data, self.idle_relids())
        handle, offset = self.handle(data, relid), data.draw(st.sampled_from((1, 1, 1, 0, 4)))
        flag = data.draw(st.sampled_from((0, 7, 2048)))
        body = struct.pack("<IIIII120sIHH", relid, 1, handle, vp, offset, b"", signal, flag, 1)
        self.send(struct.pack("<II", 5, 0) + body)

    @rule(data=st.data())
    def close_channel(self, data: st.DataObject) -> None:
        self.message(7, "I", self.relid(data))

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        relid = self.relid(data)
        before = self.watcher.relids.get(relid)
        made = self.message(13, "I", relid)
        # the same relid may have been offered again by what followed
        if made is not None and self.watcher.relids.get(relid) == before:
            self.watcher.released(relid)

    @rule(data=st.data(), vp=vps, sint=sints)
    def open_reserved(self, data: st.DataObject, vp: int, sint: int) -> None:
        relid = self.relid(data)
        self.message(18, "IIIII", relid, vp, sint, self.handle(data, relid), data.draw(st.integers(0, 4)))

    @rule(data=st.data(), vp=vps, sint=sints)
    def close_reserved(self, data: st.DataObject, vp: int, sint: int) -> None:
        self.message(19, "III", self.relid(data), vp, sint)

    @rule(data=st.data(), vp=vps)
    def modify_channel(self, data: st.DataObject, vp: int) -> None:
        uses = self.watcher.open.values()
        self.message(22, "II", self.relid(data, {request.relid for request in uses}), vp)

    # ------------------------------------------------------------ the host

    @rule(name=st.sampled_from("abc"), monitor=st.none() | st.integers(0, 127))
    def offer(self, name: str, monitor: int | None) -> None:
        self.offered_by_name(name, monitor)

    def offered_by_name(self, name: str, monitor: int | None) -> None:
        offer = Offer(guid("interface"), guid(name), monitor_id=monitor)
        self.offered(offer, lambda control: control.offer(offer))

    @rule(data=st.data(), index=st.integers(0, 2))
    @precondition(lambda self: self.watcher.offers)
    def subchannel(self, data: st.DataObject, index: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.watcher.open) or sorted(self.watcher.offers)))
        primary = self.watcher.offers[key]
        offer = Offer(primary.interface, primary.instance, subchannel_index=index)
        self.offered(offer, lambda control: control.offer_subchannel(key, index))

    def offered(self, offer: Offer, act: Callable[[ControlPlane], tuple[OfferKey, list[Action]]]) -> None:
        result = self.both(act)
        if result is not None:
            key, made = result
            assert key not in self.watcher.offers
            self.watcher.offers[key] = offer
            self.took(made)
        self.note()

    @rule(data=st.data())
    @precondition(lambda self: self.watcher.offers)
    def rescind(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.watcher.offers)))
        self.took(self.both(lambda control: control.rescind(key)))
        self.note()

    @rule(data=st.data(), accepted=st.booleans())
    @precondition(lambda self: self.watcher.opening)
    def answer(self, data: st.DataObject, accepted: bool) -> None:
        self.answers(data.draw(st.sampled_from(sorted(self.watcher.opening))), accepted)

    def answers(self, key: OfferKey, accepted: bool) -> None:
        self.watcher.answered(key, accepted)
        self.took(self.both(lambda control: control.open_result(key, accepted)))
        self.note()

    @rule(key=st.integers(0, 40), accepted=st.booleans())
    def answer_too_late(self, key: int, accepted: bool) -> None:
        if key not in self.watcher.opening:
            assert self.both(lambda control: control.open_result(key, accepted)) == []

    @rule()
    def copy(self) -> None:
        self.twin = self.new()
        self.twin.restore(self.control.save())

    # ------------------------------------------------------------ what is always so

    @invariant()
    def the_accounts_agree(self) -> None:
        control, watcher = self.control, self.watcher
        assert (control.version or 0, control.features) == (watcher.version, watcher.features)
        assert control.target_vp < VPS
        state = self.saved
        assert {one["key"] for one in state["channels"]} == set(watcher.offers)
        uses = {one["key"]: one["use"]["opening"] for one in state["channels"] if one["use"]}
        assert uses == dict.fromkeys(watcher.opening, True) | dict.fromkeys(watcher.open, False)
        assert {(offer, handle) for offer, handle, _ in state["gpadls"]["complete"]} == watcher.gpadls
        if self.twin is not None:
            assert self.twin.save() == state

    @invariant()
    def sub_channels_go_with_their_primary_and_half_built_gpadls_with_the_guest(self) -> None:
        for one in self.saved["channels"]:
            offered = one["relid"] is not None and not one["rescinded"]
            reserved = one["use"] is not None and one["use"]["reserved"] is not None
            assert one["primary"] is None or not offered or reserved or one["primary"] in self.watcher.open
        assert self.watcher.version or not self.saved["gpadls"]["half_built"]

    @invariant()
    def all_memory_is_ram_and_within_the_budget(self) -> None:
        state = self.saved["gpadls"]
        cost = sum(GPADL_COST + RANGE_COST * count + words for _, _, words, count, _ in state["half_built"])
        assert all(len(received) < 8 * words for _, _, words, _, received in state["half_built"])
        for offer, handle, ranges in state["complete"]:
            cost += GPADL_COST + sum(RANGE_COST + 1 + len(pages) // 8 for _, _, pages in ranges)
            for one in self.control.gpadl(offer, handle).ranges:
                assert all(MEMORY.is_ram(pfn * 4096, 4096) for pfn in one.pfns)
        assert self.control._core.gpadls.spent == cost <= BUDGET


def _tried(control: ControlPlane, act: Callable[[ControlPlane], Any]) -> Any:
    try:
        return act(control)
    except (VmBusError, ConfigError):
        return None


def _refuse(asked: actions.TlConnect, control: ControlPlane) -> list[Action]:
    return control.tl_connect_result(asked.endpoint, asked.service)


QUICK = settings(
    deadline=None,
    max_examples=examples(60),
    stateful_step_count=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestControlPlane = Machine.TestCase
TestControlPlane.settings = QUICK


def test_the_sequences_reach_every_state_action_message_and_refusal() -> None:
    """Otherwise they would show little. Seed after seed is tried until all has been there."""
    seen = Seen()

    class Listening(Machine):
        pass

    Listening.seen = seen
    short = settings(
        QUICK,
        max_examples=20,
        stateful_step_count=100,
        phases=[Phase.generate],
        database=None,
        print_blob=False,
    )
    for number in range(100):
        run_state_machine_as_test(seed(number)(Listening), settings=short)
        if not seen.missing():
            return
    raise AssertionError(f"never seen: {', '.join(sorted(seen.missing()))}")
