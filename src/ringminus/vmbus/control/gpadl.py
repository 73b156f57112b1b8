"""GPADLs: guest memory that the guest describes to us, in one message or in many.

A description is ranges, each a header (`gpa_range`) and its page numbers, in words of 8 bytes. It is kept as
bytes until it is complete, then checked against the memory map as a whole. What a guest can make us hold is
bounded by one budget, from which a description is paid in full when it is announced.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ringminus.memory import PAGE_MASK, PAGE_SHIFT
from ringminus.vmbus.control.offers import OfferKey
from ringminus.vmbus.control.refusals import Refusal
from ringminus.vmbus.gpa import BadRange, GpaRange
from ringminus.vmbus.ring_wire import GpaRangeHeader

WORD = 8
BUDGET = 1 << 21
"""Words of 8 bytes, about what the host's memory holds for all GPADLs of a guest: 16 MiB. For scale, a
network adapter's buffers are 4600 words and the rings of 2047 disks are 310 000."""
GPADL_COST, RANGE_COST = 64, 24  # in words, beside the description itself


@dataclass(frozen=True, slots=True)
class Gpadl:
    """A complete one: all pages of its ranges are RAM."""

    handle: int
    ranges: tuple[GpaRange, ...]

    @property
    def words(self) -> int:
        """Length of its description, in words of 8 bytes."""
        return sum(1 + len(one.pfns) for one in self.ranges)

    @property
    def cost(self) -> int:
        """What it takes of the budget."""
        return _cost(self.words, len(self.ranges))

    def ring_pages(self) -> int | None:
        """How many pages it has as a ring; None when its shape is no ring's."""
        if len(self.ranges) != 1:
            return None
        (only,) = self.ranges
        if only.byte_offset or only.byte_count & PAGE_MASK:
            return None
        return only.byte_count >> PAGE_SHIFT


@dataclass(slots=True)
class HalfBuilt:
    """One whose description has not all come yet."""

    offer: OfferKey
    handle: int
    words: int
    range_count: int
    received: bytearray

    @property
    def cost(self) -> int:
        """What it takes of the budget."""
        return _cost(self.words, self.range_count)

    def append(self, data: bytes) -> bool:
        """Take what comes, and tell whether it is complete. Some guests send more than they mean."""
        room = self.words * WORD - len(self.received)
        self.received += data[: min(len(data) // WORD * WORD, room)]
        return len(self.received) == self.words * WORD

    def build(self) -> Gpadl:
        """The finished one; raises `BadRange` when the ranges are not what the lengths say."""
        ranges, position = [], 0
        for _ in range(self.range_count):
            if position + WORD > len(self.received):
                raise BadRange(f"{self.range_count} ranges in {self.words} words")
            header = GpaRangeHeader.unpack(self.received, position)
            position += WORD
            if not header.byte_count:
                raise BadRange("an empty range")
            end = position + WORD * (header.byte_offset + header.byte_count + PAGE_MASK >> PAGE_SHIFT)
            # a range that its description cuts off is refused by GpaRange
            pfns = array("Q", bytes(self.received[position:end]))
            ranges.append(GpaRange(header.byte_count, header.byte_offset, pfns))
            position = end
        return Gpadl(self.handle, tuple(ranges))


def _cost(words: int, range_count: int) -> int:
    return GPADL_COST + words + RANGE_COST * range_count


class GpadlTable:
    """All GPADLs of a guest, by offer and handle. `is_ram(gpa, length)` is the memory map's word."""

    def __init__(self, is_ram: Callable[[int, int], bool]) -> None:
        self._is_ram = is_ram
        self._complete: dict[OfferKey, dict[int, Gpadl]] = {}
        self._owners: dict[int, list[OfferKey]] = {}
        self._half_built: dict[int, HalfBuilt] = {}
        self.spent = 0
        """Words of the budget that are in use."""

    def get(self, offer: OfferKey, handle: int) -> Gpadl | None:
        """A complete one."""
        return self._complete.get(offer, {}).get(handle)

    def half_built(self, handle: int) -> HalfBuilt | None:
        """An incomplete one; their handles are unique, as bodies do not name a channel."""
        return self._half_built.get(handle)

    def owners(self, handle: int) -> list[OfferKey]:
        """The offers that have a complete one of that handle."""
        return self._owners.get(handle, [])

    def of_offer(self, offer: OfferKey) -> list[Gpadl]:
        """An offer's complete ones, in the order of their making."""
        return list(self._complete.get(offer, {}).values())

    def begin(self, offer: OfferKey, handle: int, words: int, range_count: int) -> HalfBuilt | Refusal:
        """Pay for a new one; its handle must be free."""
        if not range_count or words < 2 * range_count:
            return Refusal.BAD_GPADL
        made = HalfBuilt(offer, handle, words, range_count, bytearray())
        if self.spent + made.cost > BUDGET:
            return Refusal.TOO_MUCH_MEMORY
        self.spent += made.cost
        self._half_built[handle] = made
        return made

    def finish(self, half: HalfBuilt) -> Gpadl | Refusal:
        """Check and keep a description that is complete."""
        self.abandon(half)
        try:
            gpadl = half.build()
        except BadRange:
            return Refusal.BAD_GPADL
        if not all(self._pages_are_ram(one) for one in gpadl.ranges):
            return Refusal.NOT_RAM
        self._keep(half.offer, gpadl)
        return gpadl

    def _keep(self, offer: OfferKey, gpadl: Gpadl) -> None:
        self.spent += gpadl.cost
        self._complete.setdefault(offer, {})[gpadl.handle] = gpadl
        self._owners.setdefault(gpadl.handle, []).append(offer)

    def _pages_are_ram(self, pages: GpaRange) -> bool:
        whole = GpaRange(len(pages.pfns) << PAGE_SHIFT, 0, pages.pfns)
        return all(self._is_ram(gpa, length) for gpa, length in whole.extents())

    def abandon(self, half: HalfBuilt) -> None:
        """Forget an incomplete one."""
        del self._half_built[half.handle]
        self.spent -= half.cost

    def abandon_all(self, offer: OfferKey | None = None) -> None:
        """Forget the incomplete ones, all or an offer's."""
        for half in list(self._half_built.values()):
            if offer is None or half.offer == offer:
                self.abandon(half)

    def drop(self, offer: OfferKey, handle: int) -> None:
        """Forget a complete one."""
        mine, owners = self._complete[offer], self._owners[handle]
        self.spent -= mine.pop(handle).cost
        owners.remove(offer)
        if not mine:
            del self._complete[offer]
        if not owners:
            del self._owners[handle]

    def save(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "complete": [
                [
                    offer,
                    one.handle,
                    [[r.byte_count, r.byte_offset, bytes(array("Q", r.pfns))] for r in one.ranges],
                ]
                for offer, mine in self._complete.items()
                for one in mine.values()
            ],
            "half_built": [
                [half.offer, half.handle, half.words, half.range_count, bytes(half.received)]
                for half in self._half_built.values()
            ],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """What `save` gave, into an empty table."""
        for offer, handle, ranges in state["complete"]:
            made = (GpaRange(count, start, array("Q", pfns)) for count, start, pfns in ranges)
            self._keep(OfferKey(offer), Gpadl(handle, tuple(made)))
        for offer, handle, words, count, received in state["half_built"]:
            half = HalfBuilt(OfferKey(offer), handle, words, count, bytearray(received))
            self._half_built[handle] = half
            self.spent += half.cost
