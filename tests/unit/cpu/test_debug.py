"""A debugger's breakpoints, watchpoints and steps: exact, and none of it is missed or done twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from ringminus.cpu.engine import (
    Access,
    Debug,
    DebugReason,
    Exit,
    Halted,
    ProcessorDebug,
    Stopped,
    TripleFault,
    Watchpoint,
)
from ringminus.memory import MIB
from support.bare_metal import CODE, IDT, PML4, STACK, BareGuest, assemble, long_mode_registers

DATA = 0x50000
ALIAS = 0x4000_0000
STEP, BREAKPOINT = Debug(DebugReason.STEP), Debug(DebugReason.BREAKPOINT)


@pytest.fixture
def bare() -> Iterator[BareGuest]:
    guest = BareGuest("hlt")
    yield guest
    guest.close()


@pytest.fixture
def debug(bare: BareGuest) -> ProcessorDebug:
    return bare.processor.debug()


def start(bare: BareGuest, source: str, at: int = CODE) -> None:
    bare.load(source, at)
    bare.processor.set_registers(long_mode_registers(at))


def after(source: str) -> int:
    """Address of what follows `source` at the beginning of the code."""
    return CODE + len(assemble(source))


def steps(bare: BareGuest, count: int) -> list[int]:
    """RIP after each of some steps."""
    addresses = []
    for _ in range(count):
        assert bare.processor.debug().step() == STEP
        addresses.append(bare.processor.rip)
    return addresses


def map_page(bare: BareGuest, linear: int, physical: int) -> None:
    """Map one 4 KiB page of a region that the identity map covers with large pages, from our side."""
    table = 0x200000
    bare.memory.write_u64(PML4 + 0x2000 + 0x1000 * (linear >> 30) + 8 * (linear >> 21 & 511), table | 7)
    bare.memory.write_u64(table + 8 * (linear >> 12 & 511), physical | 7)


class TestBreakpoints:
    def test_the_instruction_has_not_been_executed(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, "mov eax, 1; mov ebx, 2; hlt")
        debug.set_breakpoints({after("mov eax, 1")})
        assert bare.processor.run() == BREAKPOINT
        assert bare.processor.rip == after("mov eax, 1")
        assert (bare.register("rax"), bare.register("rbx")) == (1, 0)

    def test_who_stands_at_one_goes_no_further_without_a_step(
        self, bare: BareGuest, debug: ProcessorDebug
    ) -> None:
        start(bare, "inc rax; hlt")
        debug.set_breakpoints({CODE})
        assert [bare.processor.run(), bare.processor.run()] == [BREAKPOINT, BREAKPOINT]
        assert bare.register("rax") == 0
        assert debug.step() == STEP
        assert bare.processor.run() == Halted(False)
        assert bare.register("rax") == 1

    def test_each_round_of_a_loop_is_hit(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, "mov ecx, 50; 1: inc rax; dec ecx; jnz 1b; hlt")
        debug.set_breakpoints({after("mov ecx, 50; inc rax")})
        for count in range(1, 51):
            assert bare.processor.run() == BREAKPOINT
            assert bare.register("rax") == count
            assert debug.step() == STEP
        assert bare.processor.run() == Halted(False)

    def test_one_in_blocks_that_are_translated_and_chained_already(
        self, bare: BareGuest, debug: ProcessorDebug
    ) -> None:
        start(bare, "1: dec rcx; jnz 1b; nop; hlt")
        for breakpoints in (set(), {after("dec rcx")}):
            registers = long_mode_registers(CODE)
            registers.general[1] = 1000
            bare.processor.set_registers(registers)
            debug.set_breakpoints(breakpoints)
            ended = bare.processor.run()
        assert ended == BREAKPOINT
        assert bare.register("rcx") == 999

    def test_one_that_was_removed_stops_nobody(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, "1: inc rax; cmp rax, 5; jne 1b; hlt")
        debug.set_breakpoints({CODE, after("inc rax")})
        assert bare.processor.run() == BREAKPOINT
        debug.set_breakpoints(())
        assert bare.processor.run() == Halted(False)

    def test_at_an_address_that_is_mapped_later(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        map_page(bare, ALIAS, 0)
        bare.memory.write_u64(0x200000, 0)  # not present
        bare.memory.write(0x60000, assemble("nop; mov ebx, 9; ret"))
        # the guest maps the page itself and calls it
        start(bare, f"mov eax, 0x60007; mov ecx, 0x200000; mov [rcx], rax; mov ecx, {ALIAS}; call rcx; hlt")
        debug.set_breakpoints({ALIAS + 1})
        assert bare.processor.run() == BREAKPOINT
        assert (bare.processor.rip, bare.register("rbx")) == (ALIAS + 1, 0)

    def test_only_the_linear_address_counts(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        map_page(bare, ALIAS, 0x60000)
        bare.memory.write(0x60000, assemble("inc rbx; ret"))
        start(bare, f"mov ecx, 0x60000; call rcx; mov ecx, {ALIAS}; call rcx; hlt")
        debug.set_breakpoints({ALIAS})
        assert bare.processor.run() == BREAKPOINT
        assert bare.register("rbx") == 1

    def test_code_that_the_guest_writes_over_a_breakpoint(
        self, bare: BareGuest, debug: ProcessorDebug
    ) -> None:
        bare.memory.write(0x60000, assemble("mov ebx, 1; ret"))
        start(bare, "mov esi, 0x60000; call rsi; mov byte ptr [rsi+1], 2; call rsi; hlt")
        debug.set_breakpoints({0x60000})
        for value in (1, 2):
            assert bare.processor.run() == BREAKPOINT
            assert steps(bare, 1) == [0x60005]
            assert bare.register("rbx") == value

    def test_code_that_we_write_over_a_breakpoint(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, "mov ebx, 1; hlt")
        debug.set_breakpoints({CODE})
        assert bare.processor.run() == BREAKPOINT
        bare.load("mov ebx, 2; hlt")
        assert bare.processor.run() == BREAKPOINT
        debug.step()
        assert bare.register("rbx") == 2

    def test_in_the_delay_of_sti_an_interrupt_waits(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        bare.handle(0x40, "mov ebx, 1; iretq")
        start(bare, "sti; inc rax; inc rax; hlt")
        debug.set_breakpoints({after("sti")})
        bare.processor.request_interrupt(0x40)
        assert bare.processor.run() == BREAKPOINT
        assert bare.register("rbx") == 0
        assert steps(bare, 1) == [after("sti; inc rax")]
        assert bare.processor.run() == Halted(True)
        assert (bare.register("rax"), bare.register("rbx")) == (2, 1)

    def test_stops_from_another_thread_lose_none(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, "1: inc rax; mov ecx, 20000; 2: dec ecx; jnz 2b; jmp 1b")
        debug.set_breakpoints({CODE})
        finished = threading.Event()

        def disturb() -> None:
            while not finished.is_set():
                bare.processor.stop()
                time.sleep(0.0001)

        thread = threading.Thread(target=disturb)
        thread.start()
        for count in range(300):
            while (ended := bare.processor.run()) == Stopped():
                pass
            assert ended == BREAKPOINT
            assert (bare.processor.rip, bare.register("rax")) == (CODE, count)
            assert debug.step() == STEP
            assert (bare.processor.rip, bare.register("rax")) == (after("inc rax"), count + 1)
        finished.set()
        thread.join()

    def test_a_full_translation_buffer_keeps_them(self) -> None:
        bare = BareGuest("hlt", translation_buffer=16 * MIB)
        blocks, base = 200_000, 0x1000000
        bare.memory.write(base, assemble("inc rax; jmp 1f; 1:") * blocks + b"\xf4")
        start(bare, f"xor eax, eax; mov ecx, {base}; jmp rcx")
        bare.processor.debug().set_breakpoints({base + 5 * (blocks - 1)})
        assert bare.processor.run() == BREAKPOINT
        assert bare.register("rax") == blocks - 1
        bare.close()


class TestSteps:
    def test_each_instruction_is_one(self, bare: BareGuest) -> None:
        start(bare, "mov eax, 3; push rax; pop rbx; call 1f; hlt; 1: ret")
        parts = ["mov eax, 3;", "push rax;", "pop rbx;", "call 1f;", "hlt; 1:"]
        at = [len(assemble("".join(parts[: n + 1]) + "1:")) + CODE for n in range(len(parts))]
        assert steps(bare, 5) == [at[0], at[1], at[2], at[4], at[3]]
        assert bare.register("rbx") == 3

    def test_a_loop_that_ran_before_is_stepped_all_the_same(self, bare: BareGuest) -> None:
        source = "mov ecx, 3; 1: dec ecx; jnz 1b; hlt"
        start(bare, source)
        bare.processor.run()
        bare.processor.set_registers(long_mode_registers(CODE))
        top, branch, end = after("mov ecx, 3"), after("mov ecx, 3; dec ecx"), after(source) - 1
        assert steps(bare, 7) == [top, branch, top, branch, top, branch, end]

    def test_what_was_stepped_runs_on_when_it_is_run(self, bare: BareGuest) -> None:
        source = "mov ecx, 100; 1: inc rax; dec ecx; jnz 1b; hlt"
        start(bare, source)
        steps(bare, 10)
        assert bare.processor.run() == Halted(False)
        assert bare.register("rax") == 100

    def test_flags_are_whole_after_each(self, bare: BareGuest) -> None:
        start(bare, "xor eax, eax; sub eax, 1; add eax, 1; stc; hlt")
        seen = []
        for _ in range(4):
            steps(bare, 1)
            seen.append(bare.processor.registers().rflags & 0x8D5)
        assert seen == [0x44, 0x95, 0x55, 0x55]

    def test_a_string_instruction_is_a_step_a_round(self, bare: BareGuest) -> None:
        start(bare, f"mov edi, {DATA}; mov ecx, 3; mov al, 7; rep stosb; hlt")
        at = after("mov edi, 1; mov ecx, 3; mov al, 7")
        assert steps(bare, 5)[2:] == [at, at, at]
        assert bare.memory.read(DATA, 4) == b"\x07\x07\0\0"
        while bare.processor.rip == at:
            steps(bare, 1)
        assert bare.memory.read(DATA, 4) == b"\x07\x07\x07\0"

    def test_an_exception_ends_it_at_the_handler(self, bare: BareGuest) -> None:
        bare.handle(6, "mov eax, 6; hlt")
        bare.handle(14, "mov eax, 14; hlt")
        start(bare, "ud2")
        assert steps(bare, 1) == [0x20600]
        start(bare, f"mov rbx, {0x7F_0000_0000}; mov rax, [rbx]")
        assert steps(bare, 2)[1] == 0x20E00
        assert bare.register("rax") == 0

    def test_an_exception_of_the_fetch_ends_it_at_the_handler(self, bare: BareGuest) -> None:
        bare.handle(14, "hlt")
        start(bare, f"mov rax, {0x7F_0000_0000}; jmp rax")
        assert steps(bare, 3)[1:] == [0x7F_0000_0000, 0x20E00]

    def test_into_and_out_of_int3(self, bare: BareGuest) -> None:
        bare.handle(3, "iretq")
        start(bare, "int3; nop; hlt")
        assert steps(bare, 3) == [0x20300, CODE + 1, CODE + 2]

    def test_interrupts_wait(self, bare: BareGuest) -> None:
        bare.handle(0x40, "mov ebx, 1; hlt")
        start(bare, "sti; nop; nop; nop; hlt")
        bare.processor.request_interrupt(0x40)
        assert steps(bare, 3) == [CODE + 1, CODE + 2, CODE + 3]
        assert bare.processor.interrupt_requested()
        bare.processor.run()
        assert bare.register("rbx") == 1

    def test_hlt_halts(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, "hlt; nop")
        assert debug.step() == Halted(False)
        assert bare.processor.rip == CODE + 1

    def test_hlt_with_an_interrupt_on_offer_is_over_at_once(self, bare: BareGuest) -> None:
        bare.handle(0x40, "cli; hlt")
        start(bare, "sti; hlt; nop")
        bare.processor.request_interrupt(0x40)
        assert steps(bare, 2) == [CODE + 1, CODE + 2]
        assert bare.processor.run() == Halted(False)

    def test_a_triple_fault_is_one(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, "ud2")
        assert debug.step() == TripleFault(CODE)

    def test_a_system_call(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        bare.load("syscall; nop", 0x31000)
        bare.load("nop; sysretq", 0x32000)
        setup = f"""
            mov ecx, 0xc0000081; xor eax, eax; mov edx, {0x28 << 16 | 0x10}; wrmsr
            mov ecx, 0xc0000082; mov eax, 0x32000; xor edx, edx; wrmsr
            mov rcx, 0x31000; mov r11, 0x2; sysretq
        """
        start(bare, setup)
        debug.set_breakpoints({0x31000})
        assert bare.processor.run() == BREAKPOINT
        assert steps(bare, 4) == [0x32000, 0x32001, 0x31002, 0x31003]

    def test_an_instruction_that_changes_itself_is_done_once(self, bare: BareGuest) -> None:
        # inc dword ptr [rip+disp] with the last byte of its own displacement in what it increments
        start(bare, "inc dword ptr [rip-3]; hlt")
        assert steps(bare, 1) == [CODE + 6]
        assert bare.memory.read(CODE, 7) == b"\xff\x05\xfd" + b"\x00\x00\x00\xf5"

    def test_a_store_into_a_later_instruction_of_a_block_that_ran(self, bare: BareGuest) -> None:
        start(bare, "lea rbx, [rip+2f]; 1: inc byte ptr [rbx+1]; 2: mov eax, 1; hlt")
        bare.processor.run()
        bare.processor.set_registers(long_mode_registers(CODE))
        assert len(set(steps(bare, 3))) == 3
        assert bare.register("rax") == 3

    def test_an_exit_is_answered_in_it(self, bare: BareGuest) -> None:
        start(bare, "mov edx, 0x80; out dx, al; in al, dx; vmmcall; mov ecx, 0x1b; rdmsr; cpuid; hlt")
        steps(bare, 7)
        asked = [what[0] for what in bare.recorder.asked]
        assert asked == ["out", "in", "hypercall", "rdmsr", "cpuid"]

    def test_stops_from_another_thread_neither_skip_nor_repeat(
        self, bare: BareGuest, debug: ProcessorDebug
    ) -> None:
        start(bare, "1: inc rax; jmp 1b")
        finished = threading.Event()

        def disturb() -> None:
            while not finished.is_set():
                bare.processor.stop()

        thread = threading.Thread(target=disturb)
        thread.start()
        for count in range(500):
            assert debug.step() == STEP
            assert (bare.processor.rip, bare.register("rax")) == (after("inc rax"), count + 1)
            assert debug.step() == STEP
        finished.set()
        thread.join()


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


class TestTheRest:
    def test_floating_point(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, "push 0x1f80; ldmxcsr [rsp]; fninit; fld1; fldz; hlt")
        bare.processor.run()
        state = debug.floating_point()
        assert state.stack[:2] == [0, 0x3FFF << 64 | 1 << 63]
        assert (state.control, state.status >> 11 & 7, state.mxcsr) == (0x37F, 6, 0x1F80)
        state.stack[0] = 0x4000 << 64 | 1 << 63
        state.mxcsr, state.tag = 0x1FA0, 0x0FFF  # ST0 is not zero any more
        debug.set_floating_point(state)
        assert debug.floating_point() == state
        start(bare, f"fistp qword ptr [{DATA}]; fistp qword ptr [{DATA + 8}]; hlt")
        bare.processor.run()
        assert (bare.memory.read_u64(DATA), bare.memory.read_u64(DATA + 8)) == (2, 1)

    def test_the_hidden_gs_base(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        start(bare, "mov ecx, 0xc0000102; mov eax, 0x1234; xor edx, edx; wrmsr; hlt")
        bare.processor.run()
        assert debug.kernel_gs_base == 0x1234
        debug.set_kernel_gs_base(0xFFFF_8880_0000_1000)
        start(bare, "mov ecx, 0xc0000102; rdmsr; hlt")
        bare.processor.run()
        assert bare.register("rdx") << 32 | bare.register("rax") == 0xFFFF_8880_0000_1000

    def test_registers_that_are_set_as_they_are_change_nothing(self, bare: BareGuest) -> None:
        start(bare, "mov ecx, 1000; 1: add rax, rcx; dec ecx; jnz 1b; hlt")
        while bare.processor.debug().step() == STEP:
            bare.processor.set_registers(bare.processor.registers())
        assert bare.register("rax") == 500500

    def test_the_clock_stands_still_while_it_is_paused(self, bare: BareGuest) -> None:
        clock, engine, paused = bare.engine.clock, bare.engine, 0.05
        start(bare, "rdtsc; hlt")
        began = time.perf_counter()
        engine.pause_clock()
        then = clock.tsc()
        time.sleep(paused)
        assert clock.tsc() == then
        engine.resume_clock()
        bare.processor.run()
        seen = bare.register("rdx") << 32 | bare.register("rax")
        passed = time.perf_counter() - began
        assert 0 < (seen - then) / clock.tsc_hz < passed - paused * 0.9
        assert clock.tsc() > seen

    def test_the_idt_of_a_guest_is_left_alone(self, bare: BareGuest, debug: ProcessorDebug) -> None:
        before = bare.memory.read(IDT, 0x1000), bare.memory.read(CODE, 64)
        start(bare, "hlt")
        debug.set_breakpoints({CODE})
        bare.processor.run()
        assert (bare.memory.read(IDT, 0x1000), bare.memory.read(CODE, 64)[1:]) == (before[0], before[1][1:])
