"""Guest identity and hypercall page (TLFS, hypercall-interface.md, establishing the interface)."""

from __future__ import annotations

import pytest

from ringminus.cpu.engine import VECTOR_UD, GuestException
from ringminus.memory import PAGE_SIZE
from support.hypervisor import GUEST_OS_ID, HYPERCALL, HYPERCALL_PAGE, LINUX_ID, MEMORY_SIZE, Guest

CODE = bytes.fromhex("f30f1efa0f01d9c3")  # ENDBR64; VMMCALL; RET
OTHER_PAGE = 0x20000
BELOW = bytes(range(256)) * 16


def named() -> Guest:
    guest = Guest()
    guest.name_itself()
    return guest


def shown_at(guest: Guest, gpa: int) -> bool:
    return guest.memory.read(gpa, len(CODE)) == CODE


def test_the_page_begins_with_endbr64_so_that_linux_keeps_ibt() -> None:
    guest = named()
    guest.write(HYPERCALL, HYPERCALL_PAGE | 1)
    assert guest.read(HYPERCALL) == HYPERCALL_PAGE | 1
    assert guest.memory.read(HYPERCALL_PAGE, len(CODE)) == CODE


def test_a_guest_without_a_name_cannot_enable_the_page() -> None:
    guest = Guest()
    guest.write(HYPERCALL, HYPERCALL_PAGE | 1)
    assert guest.read(HYPERCALL) == HYPERCALL_PAGE
    assert not shown_at(guest, HYPERCALL_PAGE)


def test_forgetting_the_name_disables_the_page() -> None:
    guest = named()
    guest.write(HYPERCALL, HYPERCALL_PAGE | 1)
    guest.write(GUEST_OS_ID, 0)
    assert guest.read(HYPERCALL) == HYPERCALL_PAGE
    assert not shown_at(guest, HYPERCALL_PAGE)


def test_ram_below_the_page_comes_back_when_it_is_disabled() -> None:
    guest = named()
    guest.memory.write(HYPERCALL_PAGE, BELOW)
    guest.write(HYPERCALL, HYPERCALL_PAGE | 1)
    assert guest.memory.read(HYPERCALL_PAGE, PAGE_SIZE) == CODE.ljust(PAGE_SIZE, b"\0")
    guest.write(HYPERCALL, HYPERCALL_PAGE)
    assert guest.memory.read(HYPERCALL_PAGE, PAGE_SIZE) == BELOW


def test_ram_below_the_page_comes_back_when_it_is_moved() -> None:
    guest = named()
    guest.memory.write(HYPERCALL_PAGE, BELOW)
    guest.write(HYPERCALL, HYPERCALL_PAGE | 1)
    guest.write(HYPERCALL, OTHER_PAGE | 1)
    assert guest.memory.read(HYPERCALL_PAGE, PAGE_SIZE) == BELOW
    assert shown_at(guest, OTHER_PAGE)


@pytest.mark.parametrize("gpa", [MEMORY_SIZE, 0xFEE00000, 1 << 51, (1 << 64) - PAGE_SIZE])
def test_a_page_beyond_the_guests_memory_is_gp_and_changes_nothing(gpa: int) -> None:
    guest = named()
    guest.write(HYPERCALL, HYPERCALL_PAGE | 1)
    with pytest.raises(GuestException):
        guest.write(HYPERCALL, gpa | 1)
    assert guest.read(HYPERCALL) == HYPERCALL_PAGE | 1
    assert shown_at(guest, HYPERCALL_PAGE)


def test_a_locked_page_stays() -> None:
    guest = named()
    guest.write(HYPERCALL, HYPERCALL_PAGE | 3)
    guest.write(HYPERCALL, OTHER_PAGE | 1)
    guest.write(HYPERCALL, 0)
    assert guest.read(HYPERCALL) == HYPERCALL_PAGE | 3
    assert shown_at(guest, HYPERCALL_PAGE)


def test_the_registers_belong_to_the_partition() -> None:
    guest = Guest(vp_count=2)
    guest.name_itself()
    guest.write(HYPERCALL, HYPERCALL_PAGE | 1)
    other = guest.partition.vps[1]
    assert (other.read_msr(GUEST_OS_ID), other.read_msr(HYPERCALL)) == (LINUX_ID, HYPERCALL_PAGE | 1)


def test_an_operating_system_that_names_itself_is_told_to_the_worker() -> None:
    guest = Guest()
    restarts: list[int] = []
    guest.partition.on_restart = lambda: restarts.append(1)
    guest.name_itself()
    guest.write(GUEST_OS_ID, 0)
    guest.name_itself()
    assert len(restarts) == 2


def test_hypercalls_are_ud_without_a_name_in_user_mode_and_outside_long_mode() -> None:
    """TLFS, hypercall-interface.md, "Legal Hypercall Environments"."""
    guest = Guest()
    with pytest.raises(GuestException) as caught:
        guest.hypercall(8)
    assert (caught.value.vector, caught.value.error_code) == (VECTOR_UD, None)
    guest.name_itself()
    assert guest.hypercall(0x10008) == 0
    for attribute, bad, good in (("current_cpl", 3, 0), ("is_long", False, True)):
        setattr(guest.processor, attribute, bad)
        with pytest.raises(GuestException):
            guest.hypercall(0x10008)
        setattr(guest.processor, attribute, good)
