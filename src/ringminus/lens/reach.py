"""What somebody who changes events reaches of a machine, beside the events themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ringminus.tap import ChannelState


class Reach(Protocol):
    """One machine. All of it is called on the machine's thread, also from within an event. What is not there
    raises `ChangeError`."""

    name: str
    """The guest's."""

    def now(self) -> int:
        """Reference time in 100 ns."""

    def later(self, delay: int, act: Callable[[int], None]) -> None:
        """Call `act(now)` after so many 100 ns of the guest's time."""

    # ------------------------------------------------------------ the processor and memory

    def registers(self, vp: int = 0) -> dict[str, int]:
        """General registers, RIP, RFLAGS, control registers, segments' selectors and bases, by name."""

    def set_register(self, name: str, value: int, vp: int = 0) -> None:
        """Set a general register, RIP or RFLAGS."""

    def read(self, address: int, length: int, *, physical: bool = False, vp: int = 0) -> bytes:
        """Guest memory by the page tables of a virtual processor, or by its guest-physical address. Fewer
        bytes where a page is missing, at least one."""

    def write(self, address: int, data: bytes, *, physical: bool = False, vp: int = 0) -> None:
        """Change it, all or nothing."""

    def pause(self) -> None:
        """Let the guest's clock stand still; it does not run meanwhile."""

    def resume(self) -> None:
        """Let it go on."""

    def end(self, reason: str) -> None:
        """End the guest."""

    # ------------------------------------------------------------ what can be brought in

    def channels(self) -> list[ChannelState]:
        """Those that are open."""

    def inject_packet(
        self,
        relid: int,
        payload: bytes,
        transaction_id: int | None,
        *,
        to_guest: bool,
        completion: bool,
        done: Callable[[bytes], None] | None,
    ) -> int:
        """See `addons.context.Injector.packet`; gives the packet's id."""

    def inject_message(self, payload: bytes, *, to_guest: bool) -> None:
        """A control message of the bus."""

    def inject_interrupt(self, vector: int, vp: int) -> None:
        """Request a vector."""

    def inject_signal(self, sint: int, flag: int, vp: int) -> None:
        """Set an event flag."""
