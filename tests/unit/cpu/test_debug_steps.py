"""Single steps: one instruction each, whatever it is, done once."""

from __future__ import annotations

import threading

from ringminus.cpu.engine import (
    Halted,
    ProcessorDebug,
    TripleFault,
)
from support.bare_metal import CODE, BareGuest, assemble, long_mode_registers
from support.debug import BREAKPOINT, DATA, STEP, after, start, steps


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
