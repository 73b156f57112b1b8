"""The hypercall dispatcher: decodes a call, checks it, hands it to its handler, and answers.

Order of the checks: where the call comes from (#UD), its code (2), reserved bits (3), privilege (6),
whether it is answered at all (2), its shape (3), its parameter lists (4). Source: TLFS,
hypercall-interface.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ringminus.changes import BEFORE
from ringminus.cpu.engine import invalid_opcode
from ringminus.hypervisor.calls import CALLS, Call
from ringminus.hypervisor.handlers import Handlers, Request
from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.wire import (
    FAST_INPUT_SIZE,
    RESULT_REPS_SHIFT,
    XMM_INPUT_SIZE,
    Control,
    Feature,
    Privilege,
    RegisterBlock,
)
from ringminus.memory import PAGE_MASK, PAGE_SIZE
from ringminus.tap import Hypercall
from ringminus.wire import Struct

if TYPE_CHECKING:
    from ringminus.hypervisor.vp import VirtualProcessor

log = logging.getLogger(__name__)

RCX, RDX, R8 = 1, 2, 8
XMM_SIZE = 16
CODE_MASK, FAST, RESERVED = Control.CODE_MASK, Control.FAST, Control.RESERVED
SIGNAL_EVENT_FAST = 0x005D | FAST
STATUS_NAMES = {int(status): status.name for status in HvStatus}
SIMPLE_SHAPE = ~(CODE_MASK | FAST)  # control bits that are all zero in a simple call without variable header


class Refused(Exception):
    """The call's parameters cannot be had; `status` is the answer."""

    def __init__(self, status: HvStatus) -> None:
        super().__init__(status.name)
        self.status = status


@dataclass(slots=True)
class Entry:
    """A call as one partition has it. Sizes in bytes, headers padded to 8."""

    call: Call
    allowed: bool
    handler: Callable[[Request], HvStatus] | None
    header_size: int
    element_size: int
    output_size: int
    output_element_size: int
    in_registers: bool  # it is simple, its input fits RDX and R8, and it has no output


def _size(structure: type[Struct] | None) -> int:
    return 0 if structure is None else structure.SIZE


def _padded(size: int) -> int:
    return size + 7 & ~7


class Hypercalls:
    """One virtual processor's way to the hypervisor."""

    def __init__(self, vp: VirtualProcessor) -> None:
        self._vp = vp
        self._processor = vp.processor
        self._memory = vp.partition.memory
        self._interface = vp.partition.interface
        self._tap = vp.partition.tap
        self._xmm_input = Feature.XMM_HYPERCALL_INPUT in vp.partition.profile.features
        self._xmm_output = Feature.XMM_HYPERCALL_OUTPUT in vp.partition.profile.features
        own = Handlers(vp)
        handlers = own.table()
        privileges = vp.partition.profile.privileges
        self._signal = own.signal_event_fast if Privilege.SIGNAL_EVENTS in privileges else None
        self._entries = {
            code: self._entry(call, call.privilege in privileges, handlers.get(code))
            for code, call in CALLS.items()
        }

    @staticmethod
    def _entry(call: Call, allowed: bool, handler: Callable[[Request], HvStatus] | None) -> Entry:
        header, output = _padded(_size(call.header)), _padded(_size(call.output))
        plain = not (call.rep or call.variable or output) and header <= FAST_INPUT_SIZE
        elements = _size(call.element), _size(call.output_element)
        return Entry(call, allowed, handler, header, elements[0], output, elements[1], plain)

    def call(self, control: int, input: int, output: int) -> int:
        """RCX, RDX and R8 of the guest; the result for RAX. #UD where hypercalls cannot be made."""
        processor = self._processor
        if processor.cpl or not processor.long_mode or not self._interface.guest_os_id:
            raise invalid_opcode()
        if control == SIGNAL_EVENT_FAST and self._signal is not None and self._tap.hypercalls is None:
            return self._signal(input)
        entry = self._entries.get(control & CODE_MASK)
        if self._tap.hypercalls is not None:
            return self._observed(entry, control, input, output)
        return self._dispatch(entry, control, input, output)

    def _dispatch(
        self, entry: Entry | None, control: int, input: int, output: int, given: bytes | None = None
    ) -> int:
        """`given` is the input's block where it is not the guest's own."""
        if entry is None:
            log.debug("vp %d: unknown hypercall %#x", self._vp.index, control & CODE_MASK)
            return HvStatus.INVALID_HYPERCALL_CODE
        if control & RESERVED:
            return HvStatus.INVALID_HYPERCALL_INPUT
        if not entry.allowed:
            log.debug("vp %d: %s without the privilege", self._vp.index, entry.call.name)
            return HvStatus.ACCESS_DENIED
        handler = entry.handler
        if handler is None:
            log.debug("vp %d: %s is not offered", self._vp.index, entry.call.name)
            return HvStatus.INVALID_HYPERCALL_CODE
        if entry.in_registers and control & FAST and not control & SIMPLE_SHAPE:
            block = input.to_bytes(8, "little") + output.to_bytes(8, "little")
            if given is not None:
                block = given[:FAST_INPUT_SIZE].ljust(FAST_INPUT_SIZE, b"\0")
            return int(handler(Request(block, b"", b"", 0, 0)))
        try:
            return self._general(entry, handler, control, input, output, given)
        except Refused as refused:
            return int(refused.status)

    def _general(
        self,
        entry: Entry,
        handler: Callable[[Request], HvStatus],
        control: int,
        input: int,
        output: int,
        given: bytes | None,
    ) -> int:
        count = control >> Control.REP_COUNT_SHIFT & Control.REP_COUNT_MASK
        start = control >> Control.REP_START_SHIFT & Control.REP_START_MASK
        variable = 8 * (control >> Control.VARIABLE_HEADER_SHIFT & Control.VARIABLE_HEADER_MASK)
        if (start >= count) if entry.call.rep else (start or count):
            return HvStatus.INVALID_HYPERCALL_INPUT
        if variable and not entry.call.variable:
            return HvStatus.INVALID_HYPERCALL_INPUT
        header_end = entry.header_size + variable
        input_size = _padded(header_end + count * entry.element_size)
        output_size = _padded(entry.output_size + count * entry.output_element_size)
        fast = bool(control & FAST)
        if fast:
            self._check_registers(input_size, output_size)
            block = self._registers(input_size, input, output)
        else:
            self._check_list(output, output_size)
            self._check_list(input, input_size)
            block = self._memory.read(input, input_size) if input_size else b""
        if given is not None:
            block = given[:input_size].ljust(input_size, b"\0")
        request = Request(
            block[: entry.header_size],
            block[entry.header_size : header_end],
            block[header_end:],
            start,
            count,
        )
        status = handler(request)
        if request.output:
            self._answer(fast, input_size, output, start * entry.output_element_size, bytes(request.output))
        if not entry.call.rep:
            return int(status)
        done = request.completed
        cleared = control & ~(Control.REP_START_MASK << Control.REP_START_SHIFT)
        self._processor.set_general_register(RCX, cleared | done << Control.REP_START_SHIFT)
        return int(status) | done << RESULT_REPS_SHIFT

    # ------------------------------------------------------------ parameter lists in memory

    def _check_list(self, gpa: int, size: int) -> None:
        """8-aligned, in one page, in RAM; a list of no bytes may be anywhere."""
        if size and (gpa & 7 or (gpa & PAGE_MASK) + size > PAGE_SIZE or not self._memory.is_ram(gpa, size)):
            raise Refused(HvStatus.INVALID_ALIGNMENT)

    # ------------------------------------------------------------ parameter blocks in registers

    def _check_registers(self, input_size: int, output_size: int) -> None:
        """#UD for XMM registers that the profile does not offer; refused when the block is too large."""
        if input_size > FAST_INPUT_SIZE and not self._xmm_input:
            raise invalid_opcode()
        if output_size and not self._xmm_output:
            raise invalid_opcode()
        if _block_end(input_size) + output_size > XMM_INPUT_SIZE:
            raise Refused(HvStatus.INVALID_HYPERCALL_INPUT)

    def _registers(self, size: int, rdx: int, r8: int) -> bytes:
        """RDX, R8 and as many XMM registers as the block needs."""
        block = RegisterBlock(rdx=rdx, r8=r8).pack()
        for index in range((size - FAST_INPUT_SIZE + XMM_SIZE - 1) // XMM_SIZE):
            block += self._processor.xmm(index).to_bytes(XMM_SIZE, "little")
        return block[:size]

    def _answer(self, fast: bool, input_size: int, gpa: int, offset: int, output: bytes) -> None:
        """Give the output, which begins `offset` bytes into its list."""
        if not fast:
            self._memory.write(gpa + offset, output)
            return
        # the registers after those of the input, in units of 16 bytes, hold the output
        place = _block_end(input_size) + offset
        registers = self._registers(XMM_INPUT_SIZE, *map(self._processor.general_register, (RDX, R8)))
        block = registers[:place] + output + registers[place + len(output) :]
        first, last = place // XMM_SIZE, (place + len(output) - 1) // XMM_SIZE
        for chunk in range(first, last + 1):
            if chunk == 0:
                pair = RegisterBlock.unpack(block)
                self._processor.set_general_register(RDX, pair.rdx)
                self._processor.set_general_register(R8, pair.r8)
            else:
                value = int.from_bytes(block[chunk * XMM_SIZE : (chunk + 1) * XMM_SIZE], "little")
                self._processor.set_xmm(chunk - 1, value)

    # ------------------------------------------------------------ observation

    def _observed(self, entry: Entry | None, control: int, input: int, output: int) -> int:
        code = control & CODE_MASK
        name = f"{code:#x}" if entry is None else entry.call.name
        block = b"" if entry is None else self._input_block(entry, control, input, output)
        tap, now = self._tap, self._vp.partition.clock.reference_time()
        event = Hypercall(now, self._vp.index, code, name, control, input, output, 0, "", "", block)
        scope = tap.enter()
        event.sequence, event.cause = scope
        try:
            if BEFORE + event.POINT in tap.changers:
                self._change(event, block)
            else:
                event.result = self._dispatch(entry, control, input, output)
        finally:
            tap.leave(scope)
        event.status = _status(event.result)
        event.detail = _detail(self._entries.get(event.code), event.block)
        if event.POINT in tap.changers:
            tap.decide(event, event.POINT)
            event.status = _status(event.result)
        tap.tell(event)
        return event.result

    def _change(self, event: Hypercall, block: bytes) -> None:
        """Carry out what is left of a call when who changes events have had it."""
        verdict = self._tap.decide(event, BEFORE + event.POINT)
        if verdict.dropped or verdict.answer is not None:
            return
        control = event.control
        entry = self._entries.get(control & CODE_MASK)
        event.code = control & CODE_MASK
        event.name = f"{event.code:#x}" if entry is None else entry.call.name
        given = event.block if event.block != block else None
        event.result = self._dispatch(entry, control, event.input, event.output, given)

    def _input_block(self, entry: Entry, control: int, input: int, output: int) -> bytes:
        """The header and the list of a call's input, as far as they can be read."""
        count = control >> Control.REP_COUNT_SHIFT & Control.REP_COUNT_MASK
        variable = 8 * (control >> Control.VARIABLE_HEADER_SHIFT & Control.VARIABLE_HEADER_MASK)
        size = entry.header_size + variable + count * entry.element_size
        if control & FAST:
            if size > FAST_INPUT_SIZE and (not self._xmm_input or size > XMM_INPUT_SIZE):
                return b""
            return self._registers(size, input, output)
        size = min(size, PAGE_SIZE - (input & PAGE_MASK))
        return self._memory.read(input, size) if self._memory.is_ram(input, size) else b""


def _status(result: int) -> str:
    """The name of a result's status."""
    return STATUS_NAMES.get(result & 0xFFFF) or f"{result & 0xFFFF:#x}"


def _detail(entry: Entry | None, block: bytes) -> str:
    """The decoded header, where it could be read."""
    header = entry.call.header if entry is not None else None
    return repr(header.unpack(block)) if header is not None and len(block) >= header.SIZE else ""


def _block_end(input_size: int) -> int:
    return input_size + XMM_SIZE - 1 & ~(XMM_SIZE - 1)
