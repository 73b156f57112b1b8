"""What an addon's hooks get beside the event: decoded messages, guest memory, injection, the prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from ringminus.changes import ChangeError, GuestData
from ringminus.clock import REFERENCE_HZ
from ringminus.lens.addons.message import Message
from ringminus.lens.fields import titles
from ringminus.lens.reach import Reach
from ringminus.tap import Event, RingPacket
from ringminus.wire import Struct

if TYPE_CHECKING:
    from ringminus.lens.addons.host import AddonHost

S = TypeVar("S", bound=Struct)


class Context:
    """One addon's. `addon` is what it is called, `options` are its KEY=VALUE words, `inject` brings in what
    nobody sent."""

    def __init__(self, host: AddonHost, addon: str, options: dict[str, str]) -> None:
        self.addon = addon
        self.options = options
        self.inject = Injector(self)
        self._host = host

    @property
    def reach(self) -> Reach:
        """The machine; raises `ChangeError` while no guest runs."""
        reach = self._host.reach
        if reach is None:
            raise ChangeError("no guest runs now: this works from the hook start on")
        return reach

    @property
    def guest(self) -> str:
        """The guest's name."""
        return self.reach.name

    @property
    def seconds(self) -> float:
        """The guest's time since it began."""
        return self.reach.now() / REFERENCE_HZ

    def log(self, text: str) -> None:
        """Print a line on standard error."""
        self._host.say(f"{self.addon}: {text}")

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        """Call a function after so much of the guest's time."""
        delay = round(seconds * REFERENCE_HZ)
        self.reach.later(delay, lambda _now: self._host.guard(self.addon, act))

    # ------------------------------------------------------------ what an event carries

    def message(self, event: Event) -> Message:
        """The messages that an event carries, by name; setting their fields changes the event."""
        return Message(event, self._host.decoder)

    def request(self, event: RingPacket) -> RingPacket | None:
        """The request that a completion completes."""
        found = self._host.decoder.request(event)
        return found if isinstance(found, RingPacket) else None

    def data(self, event: Event) -> GuestData:
        """The guest memory that an event names: of a request, or of its completion. Raises `ChangeError` if
        it names none."""
        if event.memory is None:
            raise ChangeError(f"this {type(event).__name__} names no guest memory")
        return event.memory

    @contextmanager
    def structure(self, event: Event, kind: type[S], offset: int = 0) -> Iterator[S]:
        """The structure that begins so many bytes into that memory; what the block sets in it is written. Of
        one that is cut short the rest is zeros, and is not written."""
        data = self.data(event)
        there = data.read(offset, max(min(kind.SIZE, data.size - offset), 0))
        found = kind.unpack(there.ljust(kind.SIZE, b"\0"))
        yield found
        data.write(found.pack()[: len(there)], offset)

    # ------------------------------------------------------------ the guest

    def registers(self, vp: int = 0) -> dict[str, int]:
        """A virtual processor's registers, by name."""
        return self.reach.registers(vp)

    def read(self, address: int, length: int, *, physical: bool = False) -> bytes:
        """Guest memory by the page tables that are in use, or by its guest-physical address."""
        return self.reach.read(address, length, physical=physical)

    def write(self, address: int, data: bytes, *, physical: bool = False) -> None:
        """Change it."""
        self.reach.write(address, data, physical=physical)

    def break_here(self) -> None:
        """Stop the guest here and open the prompt; goes on when the person says so."""
        self._host.break_here()


class Injector:
    """Brings in what nobody sent. It is shown as `injected`, and to no addon."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def packet(
        self,
        device: str | int,
        payload: bytes,
        *,
        to_guest: bool,
        transaction_id: int | None = None,
        completion: bool = False,
        done: Callable[[bytes], None] | None = None,
    ) -> int:
        """An in-band packet on the primary channel of a device, named by its title, by its driver or as a
        relid; or the `completion` of the other side's packet with that id.

        With `done` it wants a completion, whose payload `done` gets: who seems to have sent it sees none.
        One for the guest goes out at once, one for the device in the machine's next turn. Gives its id."""
        guarded = None
        if done is not None:
            host, name, wanted = self._context._host, self._context.addon, done
            guarded = lambda payload: host.guard(name, lambda: wanted(payload))  # noqa: E731
        return self._context.reach.inject_packet(
            self._relid(device),
            payload,
            transaction_id,
            to_guest=to_guest,
            completion=completion,
            done=guarded,
        )

    def message(self, message: bytes | Struct, *, to_guest: bool) -> None:
        """A control message of the bus. One for the guest is queued at once, one in the guest's name is
        handled in the machine's next turn."""
        payload = message.pack() if isinstance(message, Struct) else message
        self._context.reach.inject_message(payload, to_guest=to_guest)

    def interrupt(self, vector: int, vp: int = 0) -> None:
        """An interrupt vector, 16 to 255."""
        self._context.reach.inject_interrupt(vector, vp)

    def signal(self, flag: int, sint: int = 2, vp: int = 0) -> None:
        """An event flag of a SINT; the bus's is 2, and a channel's flag is its relid."""
        self._context.reach.inject_signal(sint, flag, vp)

    def _relid(self, device: str | int) -> int:
        if isinstance(device, int):
            return device
        there = [one for one in self._context.reach.channels() if not one.channel]
        for one in there:
            if device in titles(one.device, one.interface):
                return one.relid
        names = ", ".join(one.device for one in there) or "none"
        raise ChangeError(f"no device {device!r} has an open channel: those that have are {names}")
