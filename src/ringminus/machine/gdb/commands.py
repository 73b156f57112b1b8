"""What gdb asks and what it is answered, sans-I/O: a table of commands, each a method of `Stub`.

Source: "Packets", "General Query Packets", "Stop Reply Packets" and "Target Descriptions" in gdb's manual;
`qqemu.PhyMemMode` is QEMU's (docs/system/gdb).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from ringminus.cpu.engine import Debug, DebugReason, Processor
from ringminus.machine.gdb import space, target
from ringminus.machine.gdb.arguments import (
    Malformed,
    Resume,
    action_of,
    bytes_of,
    number_of,
    numbers_of,
    point_of,
    thread_of,
)
from ringminus.machine.gdb.points import WATCH_NAMES, Points
from ringminus.machine.gdb.protocol import LONGEST
from ringminus.memory import GuestMemory

OK, NOTHING = b"OK", b""
# errno values, as gdb shows them
FAULT, INVALID = b"E0e", b"E16"
SIGINT, SIGTRAP = 2, 5
# what fits into a reply in hexadecimal digits, with room for what stands before
LARGEST_READ = LONGEST // 2 - 64
FEATURES = (
    f"PacketSize={LONGEST - 16:x};qXfer:features:read+;QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+;"
    "binary-upload+"
).encode()
NAME = re.compile(rb"[A-Za-z]+(?:\.[A-Za-z]+)*\??")
ANNEX = re.compile(rb"features:read:([^:]*):([0-9A-Fa-f]{1,16}),([0-9A-Fa-f]{1,16})")


class Control(Protocol):
    """What a command may do with the guest's run."""

    def resume(self, how: Resume) -> None:
        """Let the guest run; its stop is answered later."""

    def kill(self) -> None:
        """End the guest."""

    def detach(self) -> None:
        """Let the guest run without a debugger."""

    def monitor(self, words: str) -> str:
        """The answer to `monitor WORDS`."""


class Stub:
    """The state of a debugging session. `answer` gives the packets that answer one; none when the guest runs
    instead. It works on `processors` and `memory`, of which there are none between two machines."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.points = Points()
        self.processors: Sequence[Processor] = ()
        self.memory: GuestMemory | None = None
        self.reset()

    def reset(self) -> None:
        """A new session begins."""
        self.points.clear()
        self.wants_no_acknowledgements = False
        self.current = 0
        self._physical = False
        self._tells_breakpoints: frozenset[bytes] = frozenset()
        self.last_stop = self.stopped_by(SIGTRAP)

    # ------------------------------------------------------------ stops

    def stopped_by(self, signal: int) -> bytes:
        """The stop reply for a stop by `signal`."""
        self.last_stop = b"T%02xthread:%x;" % (signal, self.current + 1)
        return self.last_stop

    def stopped_at(self, index: int, event: Debug) -> bytes:
        """The stop reply for a processor's event."""
        self.current = index
        reason = b""
        if event.reason is DebugReason.WATCHPOINT and event.watchpoint is not None:
            name = WATCH_NAMES[event.watchpoint.access]
            reason = b"%b:%x;" % (name, event.watchpoint.address)
        elif event.reason is DebugReason.BREAKPOINT:
            hardware = self.points.is_hardware(self.processors[index].rip)
            name = b"hwbreak" if hardware else b"swbreak"
            reason = b"%b:;" % name if name in self._tells_breakpoints else b""
        self.last_stop = b"T%02x%bthread:%x;" % (SIGTRAP, reason, index + 1)
        return self.last_stop

    # ------------------------------------------------------------ dispatch

    def answer(self, payload: bytes) -> list[bytes]:
        """The answers to one packet."""
        command, rest = payload[:1], payload[1:]
        if command in (b"q", b"Q", b"v"):
            match = NAME.match(rest)
            name = match.group() if match else b""
            command, rest = command + name, rest[len(name) :]
        handler = COMMANDS.get(command)
        if handler is None:
            return [NOTHING]
        try:
            answer = handler(self, rest)
        except (Malformed, IndexError, ValueError, target.ReadOnlyRegister):
            return [INVALID]
        except space.NotMapped:
            return [FAULT]
        return answer if isinstance(answer, list) else [answer]

    @property
    def _processor(self) -> Processor:
        return self.processors[self.current]

    def _thread(self, text: bytes) -> int | None:
        return thread_of(text, len(self.processors))

    # ------------------------------------------------------------ session

    def status(self, _rest: bytes) -> bytes:
        return self.last_stop

    def supported(self, rest: bytes) -> bytes:
        names = {feature[:-1] for feature in rest.removeprefix(b":").split(b";") if feature.endswith(b"+")}
        self._tells_breakpoints = frozenset(names & {b"swbreak", b"hwbreak"})
        return FEATURES

    def no_acknowledgements(self, _rest: bytes) -> bytes:
        self.wants_no_acknowledgements = True
        return OK

    def description(self, rest: bytes) -> bytes:
        match = ANNEX.fullmatch(rest.removeprefix(b":"))
        if match is None or match[1] != b"target.xml":
            raise Malformed
        start, length = int(match[2], 16), min(int(match[3], 16), LARGEST_READ)
        document = target.description()
        part = document[start : start + length]
        return (b"m" if start + length < len(document) else b"l") + part

    def attached(self, _rest: bytes) -> bytes:
        return b"1"  # gdb's end is not the guest's

    def detach(self, _rest: bytes) -> bytes:
        self._control.detach()
        return OK

    def kill(self, _rest: bytes) -> list[bytes]:
        self._control.kill()
        return []

    def kill_process(self, _rest: bytes) -> bytes:
        self._control.kill()
        return OK

    def monitor(self, rest: bytes) -> list[bytes]:
        words = bytes_of(rest.removeprefix(b",")).decode(errors="replace")
        said = self._control.monitor(words).encode().hex().encode()
        parts = (said[start : start + LARGEST_READ] for start in range(0, len(said), LARGEST_READ))
        return [*(b"O" + part for part in parts), OK]

    # ------------------------------------------------------------ threads

    def threads(self, _rest: bytes) -> bytes:
        return b"m" + b",".join(b"%x" % (index + 1) for index in range(len(self.processors)))

    def more_threads(self, _rest: bytes) -> bytes:
        return b"l"

    def current_thread(self, _rest: bytes) -> bytes:
        return b"QC%x" % (self.current + 1)

    def describe_thread(self, rest: bytes) -> bytes:
        index = self._thread(rest.removeprefix(b",")) or 0
        processor = self.processors[index]
        return f"virtual processor {index}, ring {processor.cpl}".encode().hex().encode()

    def select_thread(self, rest: bytes) -> bytes:
        index = self._thread(rest[1:])
        if rest[:1] == b"g" and index is not None:
            self.current = index
        elif rest[:1] not in (b"g", b"c"):
            raise Malformed
        return OK

    def thread_lives(self, rest: bytes) -> bytes:
        self._thread(rest)
        return OK

    # ------------------------------------------------------------ registers

    def read_registers(self, _rest: bytes) -> bytes:
        return target.read_all(self._processor).hex().encode()

    def write_registers(self, rest: bytes) -> bytes:
        target.write_all(self._processor, bytes_of(rest))
        return OK

    def read_register(self, rest: bytes) -> bytes:
        return target.read(self._processor, number_of(rest)).hex().encode()

    def write_register(self, rest: bytes) -> bytes:
        number, _, value = rest.partition(b"=")
        target.write(self._processor, number_of(number), bytes_of(value))
        return OK

    # ------------------------------------------------------------ memory

    def _read(self, rest: bytes) -> bytes:
        address, length = numbers_of(rest, 2)
        if self.memory is None:
            raise space.NotMapped
        return space.read(self.memory, self._space(), address, min(length, LARGEST_READ))

    def _write(self, where: bytes, data: bytes) -> bytes:
        address, length = numbers_of(where, 2)
        if length != len(data):
            raise Malformed
        if self.memory is None:
            raise space.NotMapped
        space.write(self.memory, self._space(), address, data)
        return OK

    def _space(self) -> Processor | None:
        return None if self._physical else self._processor

    def read_memory(self, rest: bytes) -> bytes:
        return self._read(rest).hex().encode()

    def read_memory_binary(self, rest: bytes) -> bytes:
        return b"b" + self._read(rest)

    def write_memory(self, rest: bytes) -> bytes:
        where, _, data = rest.partition(b":")
        return self._write(where, bytes_of(data))

    def write_memory_binary(self, rest: bytes) -> bytes:
        where, _, data = rest.partition(b":")
        return self._write(where, data)

    def is_physical(self, _rest: bytes) -> bytes:
        return b"%d" % self._physical

    def set_physical(self, rest: bytes) -> bytes:
        if rest not in (b":0", b":1"):
            raise Malformed
        self._physical = rest == b":1"
        return OK

    # ------------------------------------------------------------ running

    def insert_point(self, rest: bytes) -> bytes:
        point = point_of(rest)
        if point is None:
            return NOTHING
        self.points.insert(point)
        return OK

    def remove_point(self, rest: bytes) -> bytes:
        point = point_of(rest)
        if point is None:
            return NOTHING
        self.points.remove(point)
        return OK

    def resume(self, rest: bytes) -> list[bytes]:
        return self._go(Resume(self.current), rest)

    def step(self, rest: bytes) -> list[bytes]:
        return self._go(Resume(self.current, stepping=True), rest)

    def resume_by_signal(self, rest: bytes) -> list[bytes]:
        return self.resume(rest.partition(b";")[2])

    def step_by_signal(self, rest: bytes) -> list[bytes]:
        return self.step(rest.partition(b";")[2])

    def _go(self, how: Resume, at: bytes) -> list[bytes]:
        if at:
            registers = self._processor.registers()
            registers.rip = number_of(at)
            self._processor.set_registers(registers)
        if not self.processors:
            raise Malformed
        self.points.apply(self.processors, stepping=how.stepping)
        self._control.resume(how)
        return []

    def resume_actions(self, _rest: bytes) -> bytes:
        return b"vCont;c;C;s;S;r"

    def resume_threads(self, rest: bytes) -> list[bytes]:
        """Each thread does what the first action says that names it; the one that steps is the one to run."""
        actions = [action.partition(b":") for action in rest.removeprefix(b";").split(b";")]
        chosen: dict[int, Resume] = {}
        for action, _, thread in actions:
            index = self._thread(thread) if thread else None
            for each in range(len(self.processors)) if index is None else (index,):
                chosen.setdefault(each, action_of(action, each))
        if not chosen:
            raise Malformed
        stepping = [how for how in chosen.values() if how.stepping]
        return self._go((stepping or list(chosen.values()))[0], b"")


COMMANDS: dict[bytes, Callable[[Stub, bytes], bytes | list[bytes]]] = {
    b"?": Stub.status,
    b"c": Stub.resume,
    b"C": Stub.resume_by_signal,
    b"D": Stub.detach,
    b"g": Stub.read_registers,
    b"G": Stub.write_registers,
    b"H": Stub.select_thread,
    b"k": Stub.kill,
    b"m": Stub.read_memory,
    b"M": Stub.write_memory,
    b"p": Stub.read_register,
    b"P": Stub.write_register,
    b"s": Stub.step,
    b"S": Stub.step_by_signal,
    b"T": Stub.thread_lives,
    b"x": Stub.read_memory_binary,
    b"X": Stub.write_memory_binary,
    b"z": Stub.remove_point,
    b"Z": Stub.insert_point,
    b"qAttached": Stub.attached,
    b"qC": Stub.current_thread,
    b"qfThreadInfo": Stub.threads,
    b"qsThreadInfo": Stub.more_threads,
    b"qThreadExtraInfo": Stub.describe_thread,
    b"qRcmd": Stub.monitor,
    b"qSupported": Stub.supported,
    b"qXfer": Stub.description,
    b"qqemu.PhyMemMode": Stub.is_physical,
    b"QStartNoAckMode": Stub.no_acknowledgements,
    b"Qqemu.PhyMemMode": Stub.set_physical,
    b"vCont": Stub.resume_threads,
    b"vCont?": Stub.resume_actions,
    b"vKill": Stub.kill_process,
}
