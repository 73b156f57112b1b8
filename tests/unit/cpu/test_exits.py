"""Instructions that leave the guest reach the exit handler, and its answers reach the guest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ringminus.cpu.engine import GuestException, Halted, TripleFault, general_protection, invalid_opcode
from ringminus.memory import LOW_RAM_END
from support.bare_metal import CODE, TSS, USER_CODE, USER_DATA, BareGuest, Recorder, assemble

ZERO = 1 << 6
LEAVE = "mov r12, [rsp]; hlt"  # a fault handler that shows its error code, or RIP where there is none


@contextmanager
def guest(source: str, handler: Recorder | None = None) -> Iterator[BareGuest]:
    bare = BareGuest(source, handler)
    try:
        yield bare
    finally:
        bare.close()


def test_cpuid_passes_leaf_and_subleaf_and_takes_four_registers() -> None:
    with guest("mov eax, 0x40000003; mov ecx, 2; cpuid; hlt") as bare:
        assert bare.processor.run() == Halted(interruptible=False)
        assert bare.recorder.asked == [("cpuid", 0x40000003, 2)]
        assert [bare.register(r) for r in ("rax", "rbx", "rcx", "rdx")] == [0x40000003, 0x11, 0x22, 0x33]


def test_msr_values_are_split_over_edx_and_eax() -> None:
    source = "mov ecx, 0x40000020; mov eax, 0x55667788; mov edx, 0x11223344; wrmsr; xor eax, eax; rdmsr; hlt"
    with guest(source) as bare:
        bare.processor.run()
        assert bare.recorder.asked == [("wrmsr", 0x40000020, 0x1122334455667788), ("rdmsr", 0x40000020)]
        assert (bare.register("rax"), bare.register("rdx")) == (0x55667788, 0x11223344)


def test_msrs_of_the_processor_itself_do_not_exit() -> None:
    with guest("mov ecx, 0xc0000082; mov eax, 0x1234; xor edx, edx; wrmsr; xor eax, eax; rdmsr; hlt") as bare:
        bare.processor.run()
        assert bare.recorder.asked == []
        assert bare.register("rax") == 0x1234


def test_vmmcall_is_a_hypercall_with_rcx_rdx_r8() -> None:
    with guest("mov rcx, 0x1005c; mov rdx, 0x2000; mov r8, 0x3000; vmmcall; hlt") as bare:
        bare.processor.run()
        assert bare.recorder.asked == [("hypercall", 0x1005C, 0x2000, 0x3000)]
        assert bare.register("rax") == 0x77


@pytest.mark.parametrize(
    ("register", "size", "value"), [("al", 1, 0x78), ("ax", 2, 0x5678), ("eax", 4, 0x12345678)]
)
def test_ports_have_three_sizes(register: str, size: int, value: int) -> None:
    with guest(f"mov dx, 0x3f8; xor eax, eax; in {register}, dx; out dx, {register}; hlt") as bare:
        bare.processor.run()
        assert bare.recorder.asked == [("in", 0x3F8, size), ("out", 0x3F8, size, value)]
        assert bare.register("rax") == value


def test_memory_that_is_no_ram_is_mmio_and_absent_memory_reads_all_ones() -> None:
    with guest("mov rbx, 0xfec00000; mov eax, [rbx]; mov dword ptr [rbx+16], 7; hlt") as bare:
        bare.processor.run()
        assert bare.recorder.asked == [("mmio-read", 0xFEC00000, 4), ("mmio-write", 0xFEC00010, 4, 7)]
        assert bare.register("rax") == 0xFFFFFFFF


def test_code_cannot_be_fetched_from_mmio() -> None:
    with guest(f"mov rax, {LOW_RAM_END + 0x1000}; jmp rax") as bare:
        bare.handle(6, LEAVE)
        assert isinstance(bare.processor.run(), Halted | TripleFault)


def test_cr8_is_the_handlers_task_priority() -> None:
    with guest("mov rax, 7; mov cr8, rax; mov rbx, cr8; hlt") as bare:
        bare.processor.run()
        assert bare.recorder.asked == [("cr8-write", 7), ("cr8-read",)]
        assert bare.register("rbx") == 5


class Refusing(Recorder):
    """Gives an exception for everything."""

    exception: GuestException

    def read_msr(self, msr: int) -> int:
        raise self.exception

    def hypercall(self, control: int, input: int, output: int) -> int:
        raise self.exception


def test_a_refused_msr_gives_gp_with_the_address_of_the_instruction() -> None:
    handler = Refusing()
    handler.exception = general_protection()
    with guest("nop; mov ecx, 0x999; rdmsr; hlt", handler) as bare:
        bare.handle(13, "mov rax, [rsp]; mov rbx, [rsp+8]; hlt")
        bare.processor.run()
        assert (bare.register("rax"), bare.register("rbx")) == (0, CODE + 6)


def test_a_refused_hypercall_gives_ud_without_error_code() -> None:
    handler = Refusing()
    handler.exception = invalid_opcode()
    with guest("vmmcall; hlt", handler) as bare:
        bare.handle(6, LEAVE)
        bare.processor.run()
        assert bare.register("r12") == CODE


class Broken(Recorder):
    def read_msr(self, msr: int) -> int:
        raise ZeroDivisionError("a bug of ours")


def test_another_exception_of_the_handler_comes_out_of_run() -> None:
    with guest("mov ecx, 1; rdmsr; 1: jmp 1b", Broken()) as bare, pytest.raises(ZeroDivisionError):
        bare.processor.run()


@pytest.mark.parametrize(
    "name", ["vmrun", "vmload", "vmsave", "stgi", "clgi", "skinit eax", "invlpga", "monitor", "mwait"]
)
def test_what_cpuid_does_not_offer_is_an_invalid_opcode(name: str) -> None:
    with guest(f"xor ecx, ecx; {name}; hlt") as bare:
        bare.handle(6, LEAVE)
        bare.processor.run()
        assert bare.register("r12") == CODE + 2


USER = f"""
    mov rax, {USER_DATA}; push rax; push 0x7000; push 0x2; mov rax, {USER_CODE}; push rax
    lea rax, [rip+1f]; push rax; iretq
1:  mov dx, 0x80
2:  out dx, al
    in eax, dx
3:  jmp 3b
"""


def test_a_port_in_user_mode_without_permission_is_a_gp() -> None:
    with guest(USER) as bare:
        bare.handle(13, LEAVE)
        bare.processor.run()
        assert bare.recorder.asked == []
        assert bare.register("r12") == 0


def test_the_bitmap_of_the_task_state_may_allow_a_port() -> None:
    with guest(USER.replace("in eax, dx", "ud2")) as bare:
        bare.handle(6, LEAVE)
        bare.memory.write(TSS + 0x68 + 0x80 // 8, b"\xfe")
        bare.processor.run()
        assert bare.recorder.asked == [("out", 0x80, 1, bare.register("rax") & 0xFF)]


def test_who_answers_a_port_access_sees_its_own_instruction_and_flags() -> None:
    """Translated code does not say where it is before a port access: RIP was that of the block's start."""

    class Looks(Recorder):
        seen: list[tuple[int, int]]

        def port_in(self, port: int, size: int) -> int:
            registers = bare.processor.registers()
            self.seen.append((registers.rip - CODE, registers.rflags & ZERO))
            return 3

        def port_out(self, port: int, size: int, value: int) -> None:
            self.port_in(port, size)

    before = "mov dx, 0x80; mov eax, 7; cmp al, 7"
    handler = Looks()
    handler.seen = []
    with guest(f"{before}; in al, dx; sete cl; cmp al, 4; out dx, al; sete ch; hlt", handler) as bare:
        bare.processor.run()
        first = len(assemble(before))
        assert handler.seen == [
            (first, ZERO),
            (first + len(assemble("in al, dx; sete cl; cmp al, 4")), 0),
        ]
        assert bare.register("rcx") & 0xFFFF == 1
