"""What the lens's addons and breakpoints reach of a machine (see `lens.reach.Reach`)."""

from __future__ import annotations

from collections.abc import Callable

from ringminus.changes import INJECTED, ChangeError
from ringminus.cpu.engine import GENERAL, Processor
from ringminus.machine.gdb import space
from ringminus.machine.outcome import End, Outcome
from ringminus.machine.worker import Worker
from ringminus.tap import ChannelState, Interrupt
from ringminus.vmbus.channel import OpenChannel

SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs", "ldtr", "tr", "gdtr", "idtr")
SELECTORS = ("cs", "ss", "ds", "es", "fs", "gs")
CONTROL = ("cr0", "cr2", "cr3", "cr4", "efer")
SETTABLE = ("rip", "rflags")
FIRST_VECTOR, LAST_VECTOR = 16, 255
SINTS, FLAGS = 16, 2048


class Unreachable(ChangeError):
    """What was asked for is not there."""


class MachineReach:
    """One machine in its worker."""

    def __init__(self, worker: Worker, name: str) -> None:
        self.name = name
        self._worker = worker
        self._machine = worker.machine
        self._partition = worker.machine.partition

    def now(self) -> int:
        return self._partition.clock.reference_time()

    def later(self, delay: int, act: Callable[[int], None]) -> None:
        self._partition.timers.timer(act).arm(self.now() + delay)

    # ------------------------------------------------------------ the processor and memory

    def _processor(self, vp: int) -> Processor:
        if not 0 <= vp < self._partition.vp_count:
            raise Unreachable(f"there is no virtual processor {vp}: there are {self._partition.vp_count}")
        return self._partition.vps[vp].processor

    def registers(self, vp: int = 0) -> dict[str, int]:
        registers = self._processor(vp).registers()
        found = dict(zip(GENERAL, registers.general, strict=True))
        found |= {"rip": registers.rip, "rflags": registers.rflags}
        found |= {name: getattr(registers, name) for name in CONTROL}
        found |= {name: getattr(registers, name).selector for name in SELECTORS}
        return found | {f"{name}_base": getattr(registers, name).base for name in SEGMENTS}

    def set_register(self, name: str, value: int, vp: int = 0) -> None:
        processor = self._processor(vp)
        if not 0 <= value < space.LINEAR_LIMIT:
            raise Unreachable(f"a register has 64 bits: {value:#x} does not fit")
        if name in GENERAL:
            processor.set_general_register(GENERAL.index(name), value)
        elif name in SETTABLE:
            registers = processor.registers()
            setattr(registers, name, value)
            processor.set_registers(registers)
        else:
            names = ", ".join((*GENERAL, *SETTABLE))
            raise Unreachable(f"{name} cannot be set: those that can are {names}")

    def read(self, address: int, length: int, *, physical: bool = False, vp: int = 0) -> bytes:
        try:
            return space.read(self._machine.memory, self._space(physical, vp), address, length)
        except space.NotMapped:
            raise self._nothing_at(address, physical) from None

    def write(self, address: int, data: bytes, *, physical: bool = False, vp: int = 0) -> None:
        try:
            space.write(self._machine.memory, self._space(physical, vp), address, data)
        except space.NotMapped:
            raise self._nothing_at(address, physical) from None

    def _space(self, physical: bool, vp: int) -> Processor | None:
        return None if physical else self._processor(vp)

    @staticmethod
    def _nothing_at(address: int, physical: bool) -> Unreachable:
        return Unreachable(
            f"guest-physical {address:#x} is no RAM" if physical else f"nothing is mapped at {address:#x}"
        )

    def pause(self) -> None:
        self._machine.engine.pause_clock()

    def resume(self) -> None:
        self._machine.engine.resume_clock()

    def end(self, reason: str) -> None:
        self._worker.end(Outcome(End.INTERRUPTED, reason))

    # ------------------------------------------------------------ what can be brought in

    def channels(self) -> list[ChannelState]:
        return self._machine.vmbus.channel_states()

    def _channel(self, relid: int) -> OpenChannel:
        for slot in self._machine.vmbus.slots():
            if slot.channel is not None and slot.relid == relid:
                return slot.channel
        open_ones = ", ".join(str(one.relid) for one in self.channels()) or "none"
        raise Unreachable(f"no channel with relid {relid} is open: open ones are {open_ones}")

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
        if completion and transaction_id is None:
            raise Unreachable("a completion has the id of the packet that it completes: say transaction_id")
        channel = self._channel(relid)
        return channel.inject(
            bytes(payload), transaction_id, to_guest=to_guest, completion=completion, done=done
        )

    def inject_message(self, payload: bytes, *, to_guest: bool) -> None:
        try:
            self._machine.vmbus.inject(bytes(payload), to_guest=to_guest)
        except ValueError as error:
            raise Unreachable(str(error)) from None

    def inject_interrupt(self, vector: int, vp: int) -> None:
        self._processor(vp)
        if not FIRST_VECTOR <= vector <= LAST_VECTOR:
            raise Unreachable(f"interrupt vectors are {FIRST_VECTOR} to {LAST_VECTOR}, not {vector}")
        tap, apic = self._partition.tap, self._partition.vps[vp].apic
        event = Interrupt(self.now(), vp, vector, "addon", changed=INJECTED)
        tap.tell(event)
        scope = tap.within(event)
        apic.raise_vector(vector, "addon", passed=True)
        tap.leave(scope)

    def inject_signal(self, sint: int, flag: int, vp: int) -> None:
        self._processor(vp)
        if not 0 <= sint < SINTS or not 0 <= flag < FLAGS:
            raise Unreachable(f"SINT {sint} flag {flag}: there are SINTs 0 to 15 with flags 0 to 2047")
        self._partition.vps[vp].synic.signal_event(sint, flag, INJECTED)
