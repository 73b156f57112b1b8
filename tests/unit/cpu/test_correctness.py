"""What stock Unicorn gets wrong and would corrupt a guest: each test fails without our change."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from ringminus.cpu.engine import Halted, Stopped, TripleFault
from ringminus.memory import GIB, HIGH_RAM_BASE, LOW_RAM_END, MIB
from support.bare_metal import CODE, IDT, PML4, STACK, BareGuest, assemble, long_mode_registers

ALIAS = 0x4000_0000  # a linear address that the tests map elsewhere


@pytest.fixture
def bare() -> Iterator[BareGuest]:
    guest = BareGuest("hlt")
    yield guest
    guest.close()


def run_from(bare: BareGuest, source: str, at: int = CODE) -> object:
    bare.load(source, at)
    bare.processor.set_registers(long_mode_registers(at))
    return bare.processor.run()


def map_page(bare: BareGuest, linear: int, physical: int, writable: bool, executable: bool) -> None:
    """Map one 4 KiB page of a region that the identity map covers with large pages."""
    table = 0x200000
    directory = PML4 + 0x2000 + 0x1000 * (linear >> 30)
    bare.memory.write_u64(directory + 8 * (linear >> 21 & 511), table | 7)
    entry = physical | 5 | (2 if writable else 0) | (0 if executable else 1 << 63)
    bare.memory.write_u64(table + 8 * (linear >> 12 & 511), entry)


def test_a_stop_from_another_thread_never_runs_an_instruction_twice(bare: BareGuest) -> None:
    count = 3_000_000
    bare.load(
        f"mov ecx, {count}; mov edi, 0x50000\n"
        "1: inc qword ptr [rdi]; inc qword ptr [rdi+8]; dec ecx; jnz 1b; hlt"
    )
    finished = threading.Event()

    def disturb() -> None:
        while not finished.is_set():
            bare.processor.stop()
            time.sleep(0.0002)

    thread = threading.Thread(target=disturb)
    thread.start()
    stops = 0
    while isinstance(bare.processor.run(), Stopped):
        stops += 1
    finished.set()
    thread.join()
    assert stops > 5
    assert [bare.memory.read_u64(0x50000), bare.memory.read_u64(0x50008)] == [count, count]


def test_code_patched_through_another_mapping_is_executed_as_patched(bare: BareGuest) -> None:
    # a function at 0x30000 (mov eax, imm; ret), run in place and written through an alias
    map_page(bare, ALIAS, 0x30000, writable=True, executable=False)
    body = "".join(f"mov byte ptr [rbx+1], {value}; call rcx; mov r{9 + value}, rax\n" for value in (0, 1, 2))
    run_from(
        bare,
        f"mov ebx, {ALIAS}; mov ecx, 0x30000; mov dword ptr [rbx], 0xb8\n"
        f"mov word ptr [rbx+4], 0xc300\n{body} hlt",
    )
    assert [bare.register(name) for name in ("r9", "r10", "r11")] == [0, 1, 2]


@pytest.mark.parametrize("at", [0x30000, HIGH_RAM_BASE + 0x30000])
def test_a_write_from_our_side_into_translated_code_takes_effect(at: int) -> None:
    size = 64 * MIB if at < LOW_RAM_END else LOW_RAM_END + 64 * MIB
    bare = BareGuest("hlt", size=size)
    bare.memory.write(at, assemble("mov eax, 1; ret"))
    run_from(bare, f"mov rcx, {at}; call rcx; hlt")
    assert bare.register("rax") == 1
    bare.memory.write(at, assemble("mov eax, 2; ret"))
    run_from(bare, f"mov rcx, {at}; call rcx; hlt")
    assert bare.register("rax") == 2
    view = bare.memory.view(at, 6)
    view[:] = assemble("mov eax, 3; ret")
    bare.memory.written(at, 6)
    run_from(bare, f"mov rcx, {at}; call rcx; hlt")
    assert bare.register("rax") == 3
    bare.close()


def test_an_exit_after_int3_is_at_its_own_instruction(bare: BareGuest) -> None:
    bare.handle(3, "iretq")
    bare.handle(13, "mov rbx, [rsp+8]; hlt")
    source = "int3; mov ecx, 0x1234; nop; mov rax, 0x8000000000000000; mov rax, [rax]; hlt"
    run_from(bare, source)
    assert bare.register("rbx") == CODE + len(
        assemble("int3; mov ecx, 0x1234; nop; mov rax, 0x8000000000000000")
    )


def test_a_fault_while_delivering_a_fault_is_a_double_fault(bare: BareGuest) -> None:
    bare.handle(8, "mov rax, [rsp]; mov ebx, 8; hlt", ist=1)
    # #UD has no gate: #GP while delivering it, which has none either
    run_from(bare, "xor ebx, ebx; ud2")
    assert (bare.register("rax"), bare.register("rbx")) == (0, 8)


def test_a_page_fault_after_a_delivered_page_fault_is_not_a_double_fault(bare: BareGuest) -> None:
    bare.handle(8, "mov ebx, 8; hlt", ist=1)
    bare.handle(14, "inc ebx; mov rax, 0x50000; add rsp, 8; iretq")
    absent = 0x7F_0000_0000
    source = f"xor ebx, ebx; mov rax, {absent}; mov rcx, [rax]; mov rax, {absent}; mov rcx, [rax]; hlt"
    run_from(bare, source)
    assert bare.register("rbx") == 2


def test_a_fault_in_the_double_faults_delivery_is_a_triple_fault(bare: BareGuest) -> None:
    ended = run_from(bare, "nop; ud2")
    assert ended == TripleFault(CODE + 1)


def test_address_zero_is_an_address_as_any_other(bare: BareGuest) -> None:
    # a stock engine takes its `until` address, 0, for the end of the run
    assert run_from(bare, "mov byte ptr [0], 0xf4; mov ebx, 5; xor eax, eax; jmp rax") == Halted(False)
    assert bare.register("rbx") == 5
    assert bare.processor.rip == 1


def test_interrupts_wait_for_the_flag_and_for_the_shadow_of_sti(bare: BareGuest) -> None:
    bare.handle(0x40, "mov rbx, [rsp]; hlt")
    bare.load("nop; nop; sti; nop; nop; nop; hlt")
    bare.processor.set_registers(long_mode_registers(CODE))
    bare.processor.request_interrupt(0x40)
    assert bare.processor.interrupt_requested()
    bare.processor.run()
    assert not bare.processor.interrupt_requested()
    assert bare.register("rbx") == CODE + 4  # after the instruction that follows STI


def test_hlt_with_an_interrupt_pending_does_not_halt(bare: BareGuest) -> None:
    bare.handle(0x40, "mov rbx, [rsp]; cli; hlt")
    bare.load("sti; hlt; nop")
    bare.processor.set_registers(long_mode_registers(CODE))
    bare.processor.request_interrupt(0x40)
    assert bare.processor.run() == Halted(interruptible=False)
    assert bare.register("rbx") == CODE + 2


def test_a_withdrawn_interrupt_is_not_taken(bare: BareGuest) -> None:
    bare.handle(0x40, "mov ebx, 1; hlt")
    bare.load("xor ebx, ebx; sti; nop; nop; hlt")
    bare.processor.set_registers(long_mode_registers(CODE))
    bare.processor.request_interrupt(0x40)
    bare.processor.cancel_interrupt()
    assert bare.processor.run() == Halted(interruptible=True)
    assert bare.register("rbx") == 0


def test_a_system_call_and_its_return(bare: BareGuest) -> None:
    user = "mov ebx, 7; syscall; mov r10, r9; int 0x50; hlt"
    kernel = "mov r9, rcx; mov r8, r11; mov eax, cs; mov r12, rax; sysretq"
    bare.load(user, 0x31000)
    bare.load(kernel, 0x32000)
    bare.handle(0x50, "mov eax, cs; hlt")
    bare.memory.write_u64(IDT + 16 * 0x50, bare.memory.read_u64(IDT + 16 * 0x50) | 0x6000 << 32)
    setup = f"""
        mov ecx, 0xc0000081; xor eax, eax; mov edx, {0x28 << 16 | 0x10}; wrmsr
        mov ecx, 0xc0000082; mov eax, 0x32000; xor edx, edx; wrmsr
        mov ecx, 0xc0000084; mov eax, 0x40400; wrmsr
        mov rcx, 0x31000; mov r11, 0x2c97; sysretq
    """
    assert run_from(bare, setup) == Halted(interruptible=False)
    call_length = len(assemble("mov ebx, 7; syscall"))
    assert bare.register("r9") == 0x31000 + call_length
    assert bare.register("r8") == 0x2C97  # R11 is RFLAGS at the call: carry, direction and all
    assert bare.register("r12") == 0x10
    assert bare.register("rax") == 0x10


def test_a_full_translation_buffer_loses_nothing() -> None:
    bare = BareGuest("hlt", translation_buffer=16 * MIB)
    blocks, base = 200_000, 0x1000000
    unit = assemble("inc rax; jmp 1f; 1:")
    bare.memory.write(base, unit * blocks + b"\xf4")
    for _ in range(3):
        run_from(bare, f"xor eax, eax; mov ecx, {base}; jmp rcx")
        assert bare.register("rax") == blocks
    assert bare.engine.counters()["flushes"] > 0
    bare.close()


def test_two_engines_in_one_process_do_not_meet() -> None:
    first, second = BareGuest("inc rbx; hlt"), BareGuest("inc rbx; mov dx, 0x80; out dx, al; hlt")
    for _ in range(3):
        for guest in (first, second):
            registers = guest.processor.registers()
            registers.rip = CODE
            guest.processor.set_registers(registers)
            guest.processor.run()
    assert (first.register("rbx"), second.register("rbx")) == (3, 3)
    assert (len(first.recorder.asked), len(second.recorder.asked)) == (0, 3)
    first.close()
    assert second.processor.general_register(4) == STACK
    second.close()


def test_a_guest_above_four_gigabytes_reaches_all_of_its_memory() -> None:
    bare = BareGuest("hlt", size=4 * GIB)
    top = HIGH_RAM_BASE + GIB - 8
    run_from(bare, f"mov rax, {top}; mov rbx, 0x1122334455667788; mov [rax], rbx; mov rcx, [rax]; hlt")
    assert bare.memory.read_u64(top) == 0x1122334455667788
    assert bare.register("rcx") == 0x1122334455667788
    bare.close()


def test_a_saved_state_runs_on_where_it_was(bare: BareGuest) -> None:
    bare.load("mov ebx, 1; hlt; add ebx, 10; hlt; add ebx, 100; hlt")
    bare.processor.set_registers(long_mode_registers(CODE))
    bare.processor.run()
    saved = bare.processor.save()
    bare.processor.run()
    assert bare.register("rbx") == 11
    bare.processor.restore(saved)
    bare.processor.run()
    assert bare.register("rbx") == 11
    bare.processor.run()
    assert bare.register("rbx") == 111


def test_a_stop_after_the_end_is_nothing() -> None:
    guest = BareGuest("hlt")
    guest.processor.run()
    guest.close()
    guest.processor.stop()
    with pytest.raises(RuntimeError, match="closed"):
        guest.processor.run()
