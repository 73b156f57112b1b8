"""Page faults are told of before the guest's kernel deals with them, and only while somebody listens."""

from __future__ import annotations

import pytest

from ringminus.cpu.engine import Halted
from ringminus.tap import Event, PageFault, VmExit
from support.bare_metal import CODE, BareGuest, long_mode_registers

ABSENT = 0x7F_0000_1238


def run(bare: BareGuest, source: str) -> None:
    """Run code whose page faults are repaired by pointing RAX at memory that is there."""
    bare.handle(14, "mov rax, 0x50000; add rsp, 8; iretq")
    bare.load(source)
    bare.processor.set_registers(long_mode_registers(CODE))
    assert bare.processor.run() == Halted(False)


def test_address_instruction_and_error_code_are_told(bare: BareGuest) -> None:
    seen: list[PageFault] = []
    bare.tap.listen(PageFault, seen.append)
    # the first instruction has 10 bytes, a load and a store 3 each
    run(bare, f"mov rax, {ABSENT}; mov rcx, [rax]; mov rax, {ABSENT + 8}; mov [rax], rcx; hlt")
    read, written = seen
    assert (read.address, read.rip, read.vp) == (ABSENT, CODE + 10, 0)
    assert (read.present, read.write, read.fetch, read.user, read.reserved) == (False,) * 5
    assert (written.address, written.write, written.rip) == (ABSENT + 8, True, CODE + 23)
    assert read.sequence and written.sequence == read.sequence + 1 and not written.cause


def test_a_fetch_is_told_as_one(bare: BareGuest) -> None:
    seen: list[PageFault] = []
    bare.tap.listen(PageFault, seen.append)
    bare.handle(14, "mov rbx, [rsp]; hlt")
    bare.load(f"mov rax, {ABSENT}; jmp rax")
    bare.processor.set_registers(long_mode_registers(CODE))
    bare.processor.run()
    assert [(one.address, one.rip, one.write) for one in seen] == [(ABSENT, ABSENT, False)]


def test_nobody_is_told_who_does_not_listen(bare: BareGuest) -> None:
    seen: list[Event] = []
    leave = bare.tap.listen(PageFault, seen.append)
    bare.tap.listen(VmExit, seen.append)
    fault = f"mov rax, {ABSENT}; mov rcx, [rax]; hlt"
    run(bare, fault)
    leave()
    run(bare, fault)
    assert len(seen) == 1


def test_what_a_listener_raises_ends_the_run(bare: BareGuest) -> None:
    def refuse(event: PageFault) -> None:
        raise RuntimeError("no")

    leave = bare.tap.listen(PageFault, refuse)
    with pytest.raises(RuntimeError, match="no"):
        run(bare, f"mov rax, {ABSENT}; mov rcx, [rax]; hlt")
    leave()
    run(bare, f"mov rax, {ABSENT}; mov rcx, [rax]; hlt")
