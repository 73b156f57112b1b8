"""A debugger's breakpoints, and what else it asks of the processor: exact, and none missed."""

from __future__ import annotations

import threading
import time

from ringminus.cpu.engine import (
    Halted,
    ProcessorDebug,
    Stopped,
)
from ringminus.memory import MIB
from support.bare_metal import CODE, IDT, BareGuest, assemble, long_mode_registers
from support.debug import ALIAS, BREAKPOINT, DATA, STEP, after, map_page, start, steps


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
