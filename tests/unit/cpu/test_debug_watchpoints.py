"""Watchpoints: told after the access, each of them, and no other."""

from __future__ import annotations

import pytest

from ringminus.cpu.engine import (
    Access,
    Debug,
    DebugReason,
    Exit,
    Halted,
    ProcessorDebug,
    Watchpoint,
)
from support.bare_metal import CODE, STACK, BareGuest
from support.debug import ALIAS, BREAKPOINT, DATA, STEP, after, map_page, start


class TestWatchpoints:
    def watch(self, debug: ProcessorDebug, access: Access, address: int = DATA, length: int = 8) -> Exit:
        point = Watchpoint(address, length, access)
        debug.set_watchpoints([point])
        return Debug(DebugReason.WATCHPOINT, point)

    def test_a_write_stops_after_it(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        before, store = f"mov ebx, {DATA}; mov rax, [rbx];", "mov qword ptr [rbx], 5;"
        start(bare, f"{before}{store} nop; hlt")
        hit = self.watch(debug, Access.WRITE)
        assert bare.processor.run() == hit
        assert bare.processor.rip == after(before + store)
        assert bare.memory.read_u64(DATA) == 5
        assert bare.processor.run() == Halted(False)

    def test_a_read_stops_after_it(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        bare.memory.write_u64(DATA, 9)
        before = f"mov ebx, {DATA}; mov qword ptr [rbx], 8; mov rax, [rbx];"
        start(bare, f"{before} nop; hlt")
        hit = self.watch(debug, Access.READ)
        assert bare.processor.run() == hit
        assert (bare.processor.rip, bare.register("rax")) == (after(before), 8)

    def test_any_access(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, f"mov ebx, {DATA}; mov qword ptr [rbx], 8; mov rax, [rbx]; hlt")
        hit = self.watch(debug, Access.ANY)
        assert [bare.processor.run() for _ in range(3)] == [hit, hit, Halted(False)]

    @pytest.mark.parametrize("offset", [-17, -16, 8, 9, 100])
    @pytest.mark.parametrize("access", ["mov [rbx], rax", "mov rax, [rbx]", "movups [rbx], xmm0"])
    def test_neighbours_on_the_page_do_not_count(
        self, bare: BareGuest, debug: ProcessorDebug, offset: int, access: str
    ) -> None:
        start(bare, f"mov ebx, {DATA + 0x200 + offset}; {access}; hlt")
        self.watch(debug, Access.ANY, DATA + 0x200)
        assert bare.processor.run() == Halted(False)

    @pytest.mark.parametrize("offset", [-7, -4, -1, 0, 1, 3, 7])
    def test_a_part_is_enough(self, bare: BareGuest, debug: ProcessorDebug, offset: int) -> None:
        start(bare, f"mov ebx, {DATA + 0x200 + offset}; mov [rbx], rax; hlt")
        hit = self.watch(debug, Access.WRITE, DATA + 0x200)
        assert bare.processor.run() == hit
        assert bare.processor.run() == Halted(False)

    @pytest.mark.parametrize("at", [DATA + 0x201, DATA + 0xFFD])
    def test_an_unaligned_read_and_write_is_done_once(
        self, bare: BareGuest, debug: ProcessorDebug, at: int
    ) -> None:
        bare.memory.write_u64(at, 0x11)
        start(bare, f"mov ebx, {at}; add qword ptr [rbx], 0x22; hlt")
        hit = self.watch(debug, Access.WRITE, at + 6, 1)
        assert bare.processor.run() == hit
        assert bare.memory.read_u64(at) == 0x33

    def test_the_first_of_several_is_told(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, f"mov ebx, {DATA}; mov [rbx+0x20], rax; mov [rbx], rax; hlt")
        points = [Watchpoint(DATA, 8, Access.WRITE), Watchpoint(DATA + 0x20, 4, Access.WRITE)]
        debug.set_watchpoints(points)
        told = [bare.processor.run() for _ in range(3)]
        assert told[:2] == [Debug(DebugReason.WATCHPOINT, point) for point in reversed(points)]
        assert told[2] == Halted(False)

    def test_a_round_of_a_string_instruction(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, f"mov edi, {DATA}; mov ecx, 8; mov al, 7; rep stosb; hlt")
        hit = self.watch(debug, Access.WRITE, DATA + 5, 1)
        assert bare.processor.run() == hit
        assert bare.memory.read(DATA, 8) == b"\x07" * 6 + b"\0\0"

    def test_a_locked_exchange(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, f"mov ebx, {DATA}; mov eax, 1; lock xadd [rbx], rax; lock xadd [rbx], rax; hlt")
        hit = self.watch(debug, Access.WRITE)
        assert bare.processor.run() == hit
        assert bare.memory.read_u64(DATA) == 1
        assert bare.processor.run() == hit
        assert bare.memory.read_u64(DATA) == 1

    def test_what_an_exceptions_delivery_pushes(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        bare.handle(6, "mov ebx, 6; hlt")
        start(bare, "ud2")
        hit = self.watch(debug, Access.WRITE, STACK - 40)
        assert bare.processor.run() == hit
        assert (bare.processor.rip, bare.memory.read_u64(STACK - 40)) == (0x20600, CODE)
        assert bare.processor.run() == Halted(False)

    def test_what_an_interrupts_delivery_pushes(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        bare.handle(0x40, "mov ebx, 6; hlt")
        start(bare, "sti; nop; nop; hlt")
        hit = self.watch(debug, Access.WRITE, STACK - 40)
        bare.processor.request_interrupt(0x40)
        assert bare.processor.run() == hit
        assert bare.processor.rip == 0x24000
        assert bare.processor.run() == Halted(False)

    def test_a_step_tells_of_it_too(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, f"mov ebx, {DATA}; mov [rbx], rax; hlt")
        hit = self.watch(debug, Access.WRITE)
        assert [debug.step(), debug.step()] == [STEP, hit]
        assert debug.step() == Halted(False)

    def test_by_linear_address(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        map_page(bare, ALIAS, DATA)
        start(bare, f"mov ebx, {DATA}; mov [rbx], rax; mov ebx, {ALIAS}; mov [rbx], rax; nop; hlt")
        hit = self.watch(debug, Access.WRITE, ALIAS)
        assert bare.processor.run() == hit
        assert bare.register("rbx") == ALIAS

    def test_none_is_left_when_they_are_taken_away(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, f"mov ebx, {DATA}; mov [rbx], rax; mov [rbx], rax; hlt")
        self.watch(debug, Access.WRITE)
        bare.processor.run()
        debug.set_watchpoints(())
        assert bare.processor.run() == Halted(False)

    def test_a_breakpoint_behind_it_is_hit_too(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        before = f"mov ebx, {DATA}; mov [rbx], rax;"
        start(bare, f"{before} hlt")
        hit = self.watch(debug, Access.WRITE)
        debug.set_breakpoints({after(before)})
        assert [bare.processor.run(), bare.processor.run()] == [hit, BREAKPOINT]
