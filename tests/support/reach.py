"""What addons and breakpoints reach of a partition with a fake processor (see `lens.reach.Reach`)."""

from __future__ import annotations

from collections.abc import Callable

from ringminus.changes import ChangeError
from ringminus.cpu.engine import GENERAL
from ringminus.memory import BadGuestAddress
from ringminus.tap import ChannelState
from support.bus_bed import Bed


class BedReach:
    """`log` has what was asked of the machine beside memory and registers."""

    name = "bed"

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self.log: list[str] = []

    def now(self) -> int:
        return self._bed.guest.clock.reference_time()

    def later(self, delay: int, act: Callable[[int], None]) -> None:
        self._bed.guest.partition.timers.timer(act).arm(self.now() + delay)

    def registers(self, vp: int = 0) -> dict[str, int]:
        state = self._bed.guest.processor.state
        return dict(zip(GENERAL, state.general, strict=True)) | {"rip": state.rip, "rflags": state.rflags}

    def set_register(self, name: str, value: int, vp: int = 0) -> None:
        if name != "rip":
            raise ChangeError(f"{name} cannot be set")
        self._bed.guest.processor.state.rip = value

    def read(self, address: int, length: int, *, physical: bool = False, vp: int = 0) -> bytes:
        try:
            return self._bed.guest.memory.read(address & 0xFFFFFFFF, length)
        except BadGuestAddress:
            raise ChangeError(f"nothing is mapped at {address:#x}") from None

    def write(self, address: int, data: bytes, *, physical: bool = False, vp: int = 0) -> None:
        self._bed.guest.memory.write(address, data)

    def pause(self) -> None:
        self.log.append("pause")

    def resume(self) -> None:
        self.log.append("resume")

    def end(self, reason: str) -> None:
        self.log.append(f"end {reason}")

    def channels(self) -> list[ChannelState]:
        return self._bed.bus.channel_states()

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
        (channel,) = [slot.channel for slot in self._bed.bus.slots() if slot.relid == relid]
        assert channel is not None
        return channel.inject(payload, transaction_id, to_guest=to_guest, completion=completion, done=done)

    def inject_message(self, payload: bytes, *, to_guest: bool) -> None:
        self._bed.bus.inject(payload, to_guest=to_guest)

    def inject_interrupt(self, vector: int, vp: int) -> None:
        self._bed.guest.vp.apic.raise_vector(vector, "addon", passed=True)

    def inject_signal(self, sint: int, flag: int, vp: int) -> None:
        self._bed.guest.vp.synic.signal_event(sint, flag, "injected")
