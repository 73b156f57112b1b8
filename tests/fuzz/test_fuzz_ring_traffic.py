"""Any traffic between a guest that keeps the rules and a device: nothing is lost, out of order, or stuck.

The guest looks at its ring only when it was signalled, and both sides write whenever they like, so a signal
that is missing anywhere leaves something lying in a ring at the end.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringminus.vmbus.device import Channel, Packet
from support.bus_bed import Bed
from support.bus_driver import GuestChannel
from support.effort import examples
from support.guest_ring import COMPLETION, PENDING_SEND_SIZE, READ_INDEX, WRITE_INDEX, GuestRingFull, Received

DESCRIPTOR_AND_TRAILER = 24
LARGEST = 4096 - DESCRIPTOR_AND_TRAILER - 8  # of one page of data, which is never filled
lengths = st.integers(0, LARGEST) | st.sampled_from((0, 1, 8, 1000, 2000, 2024, LARGEST))
steps = st.one_of(
    st.tuples(st.sampled_from(("guest asks", "guest tells", "host tells")), lengths, st.integers(1, 8)),
    st.tuples(st.just("look"), st.integers(1, 5), st.just(1)),
    st.tuples(st.just("look at all"), st.just(0), st.just(1)),
)


class Talk:
    """Both sides of a channel. A request is answered with as many bytes as its id says."""

    def __init__(self, pages: int, *, scattered: bool, start: int) -> None:
        self.bed = Bed(scattered=scattered)
        self.bed.device.answer = self.answer
        self.channel = self._open(pages, start)
        self.to_host = 0
        self.to_guest = 0
        self.owed: list[tuple[int, int]] = []
        self.got: list[Received] = []
        self.blocked: list[tuple[int, bool]] = []

    def _open(self, pages: int, start: int) -> GuestChannel:
        """Open rings whose indices begin at `start`, so that their end is soon reached."""
        channel = GuestChannel(self.bed.driver, self.bed.offer, pages, pages)
        for ring in (channel.out, channel.incoming):
            ring.clear()
            ring.set(WRITE_INDEX, start)
            ring.set(READ_INDEX, start)
        channel.incoming.start_at(start)
        pfns = channel.pfns
        channel.gpadl, _ = self.bed.driver.establish_gpadl(channel.relid, [(len(pfns) << 12, 0, pfns)])
        assert channel.open_with(channel.gpadl, pages) == 0
        return channel

    def answer(self, channel: Channel, packet: Packet) -> None:
        if packet.wants_completion:
            channel.complete(packet.transaction_id, bytes(packet.transaction_id >> 32))

    def step(self, what: str, number: int) -> None:
        if what.startswith("guest "):
            self.blocked.append((number, what == "guest asks"))
            self.unblock()
        elif what == "host tells":
            self.to_guest += 1
            self.bed.device.channel.send(bytes(number), self.to_guest)
        elif self.channel.signalled():
            self.look(None if what == "look at all" else number)

    def look(self, limit: int | None) -> None:
        """The guest's interrupt handler, which gives room back after `limit` packets."""
        self.unblock()
        while packets := self.channel.receive(limit):
            self.got += packets

    def unblock(self) -> None:
        """Send what waits for room, in order; where it ends, ask for a signal and look again."""
        while self.blocked:
            size, asks = self.blocked[0]
            number = self.to_host + 1
            payload = bytes(8 if asks else size)
            for last_try in (False, True):
                try:
                    self.channel.send(payload, size << 32 | number, wants_completion=asks)
                    break
                except GuestRingFull:
                    self.channel.wait_for_room(-(-len(payload) // 8) * 8 + DESCRIPTOR_AND_TRAILER)
                    if last_try:
                        return
            self.channel.wait_for_room(0)
            self.to_host = number
            if asks:
                self.owed.append((number, size))
            self.blocked.pop(0)

    def finish(self) -> None:
        """Nothing is done any more but what signals ask for."""
        for _ in range(10_000):
            if not self.channel.signalled():
                return
            self.look(None)
        raise AssertionError("the signals do not end")


@given(
    st.sampled_from((2, 3, 5)),
    st.booleans(),
    st.sampled_from((0, 8, 2048, 4072, 4080, 4088)),
    st.lists(steps, max_size=40),
)
@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_is_lost_or_stuck(
    pages: int, scattered: bool, start: int, sequence: list[tuple[str, int, int]]
) -> None:
    talk = Talk(pages, scattered=scattered, start=start)
    for what, number, times in sequence:
        for _ in range(times):
            talk.step(what, number)
    talk.finish()
    assert not talk.blocked
    heard = [number & 0xFFFF_FFFF for _, number, _ in talk.bed.device.packets]
    assert heard == list(range(1, talk.to_host + 1))
    completions = [p for p in talk.got if p.kind == COMPLETION]
    sent = [p for p in talk.got if p.kind != COMPLETION]
    assert [p.transaction_id for p in sent] == list(range(1, talk.to_guest + 1))
    assert [(p.transaction_id & 0xFFFF_FFFF, p.transaction_id >> 32) for p in completions] == talk.owed
    assert all(len(p.payload) == -(-(p.transaction_id >> 32) // 8) * 8 for p in completions)
    assert talk.channel.incoming.get(PENDING_SEND_SIZE) == 0
