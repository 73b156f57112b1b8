"""The table of MSRs: names, privileges, reserved bits, #GP (TLFS; AMD64 manual volume 2, appendix A)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ringminus.cpu.engine import VECTOR_GP, GuestException
from ringminus.hypervisor.cpuid import SOFTWARE
from ringminus.hypervisor.msrs import MSRS, NOT_OFFERED, name_of
from ringminus.hypervisor.wire import Feature, Privilege
from ringminus.tap import MsrAccess
from support.hypervisor import EOI, Guest

EFER, HWCR, PAT, APIC_BASE, DE_CFG, NB_CFG = 0xC0000080, 0xC0010015, 0x277, 0x1B, 0xC0011029, 0xC001001F
VP_INDEX, VP_RUNTIME, TPR, ICR = 0x40000002, 0x40000010, 0x40000072, 0x40000071


def fault(action: object) -> tuple[int, int | None]:
    assert callable(action)
    with pytest.raises(GuestException) as caught:
        action()
    return caught.value.vector, caught.value.error_code


@pytest.mark.parametrize("msr", [0x400001FF, 0x40000004, 0x48, 0xC0010117, 0xFFFFFFFF])
def test_an_unknown_msr_is_gp(msr: int) -> None:
    guest = Guest()
    assert fault(lambda: guest.read(msr)) == (VECTOR_GP, 0)
    assert fault(lambda: guest.write(msr, 0)) == (VECTOR_GP, 0)


@pytest.mark.parametrize("msr", [row.number for row in MSRS.values() if int(row.needs)])
def test_a_register_needs_its_privilege(msr: int) -> None:
    row = MSRS[msr]
    without = SOFTWARE.privileges & ~row.needs
    guest = Guest(replace(SOFTWARE, privileges=without, features=Feature(0)))
    assert fault(lambda: guest.read(msr)) == (VECTOR_GP, 0)
    assert fault(lambda: guest.write(msr, 0)) == (VECTOR_GP, 0)


@pytest.mark.parametrize("row", NOT_OFFERED, ids=lambda row: row.name)
def test_registers_of_features_that_are_not_offered_have_a_name_and_fault(row: object) -> None:
    number = next(n for n, r in MSRS.items() if r is row)
    guest = Guest()
    assert name_of(number).startswith("HV_X64_MSR_")
    fault(lambda: guest.read(number))
    fault(lambda: guest.write(number, 0))


@pytest.mark.parametrize(
    "name", ["TIME_REF_COUNT", "TSC_FREQUENCY", "APIC_FREQUENCY", "VP_INDEX", "VP_RUNTIME", "SVERSION"]
)
def test_read_only_registers_fault_on_writes(name: str) -> None:
    number = next(n for n, row in MSRS.items() if row.name == f"HV_X64_MSR_{name}")
    guest = Guest()
    guest.read(number)
    assert fault(lambda: guest.write(number, 0)) == (VECTOR_GP, 0)


@pytest.mark.parametrize("row", [r for r in MSRS.values() if r.reserved], ids=lambda row: row.name)
def test_each_reserved_bit_faults(row: object) -> None:
    number, reserved = next((n, r.reserved) for n, r in MSRS.items() if r is row)
    guest = Guest()
    for bit in range(64):
        if reserved >> bit & 1:
            fault(lambda value=1 << bit: guest.write(number, value))


def test_linux_may_write_the_assist_page_whatever_the_privileges() -> None:
    guest = Guest(replace(SOFTWARE, privileges=Privilege.HYPERCALL, features=Feature(0)))
    guest.write(0x40000073, 0x15001)
    assert guest.read(0x40000073) == 0x15001


def test_each_processor_has_its_index() -> None:
    assert [vp.read_msr(VP_INDEX) for vp in Guest(vp_count=3).partition.vps] == [0, 1, 2]


def test_run_time_leaves_out_what_the_worker_spent_waiting() -> None:
    guest = Guest()
    guest.clock.advance(1000)
    guest.vp.idle_time = 400
    assert guest.read(VP_RUNTIME) == 600


def test_eoi_tpr_and_icr_are_the_local_apics() -> None:
    """TLFS, virtual-interrupts.md, "Local APIC MSR Accesses"."""
    guest = Guest()
    guest.enable_apic()
    guest.write(TPR, 0x30)
    assert guest.vp.apic.tpr == guest.read(TPR) == 0x30
    guest.write(TPR, 0)
    guest.write(ICR, 1 << 18 | 0x55)  # to itself
    assert guest.processor.accept() == 0x55
    guest.vp.apic.sync()
    assert guest.vp.apic.isr == 1 << 0x55
    guest.write(EOI, 0)
    assert guest.vp.apic.isr == 0
    assert guest.read(ICR) & 0xFF == 0x55


def test_icr_in_xapic_mode_names_the_destination_in_the_highest_byte() -> None:
    guest = Guest()
    guest.write(APIC_BASE, 0xFEE00100)  # x2APIC mode is left through "disabled"
    guest.write(APIC_BASE, 0xFEE00900)
    guest.vp.mmio_write(0xFEE000F0, 4, 0x1FF)
    guest.write(ICR, 0 << 56 | 0x66)
    assert guest.processor.accept() == 0x66
    guest.write(ICR, 5 << 56 | 0x67)
    assert guest.processor.accept() is None
    assert guest.read(ICR) == 5 << 56 | 0x67


def test_cr8_is_the_task_priority_class() -> None:
    guest = Guest()
    guest.vp.write_cr8(9)
    assert (guest.vp.read_cr8(), guest.read(TPR)) == (9, 0x90)
    assert fault(lambda: guest.vp.write_cr8(16)) == (VECTOR_GP, 0)


def test_efer_keeps_lma_and_refuses_what_cpuid_does_not_offer() -> None:
    guest = Guest()
    assert guest.read(EFER) == 0xD01
    guest.write(EFER, 0x901)  # without LMA: it is not the guest's to change
    assert guest.read(EFER) == 0xD01
    fault(lambda: guest.write(EFER, 0x1D01))  # SVME
    guest.processor.state.cr0 = 0x80000011
    fault(lambda: guest.write(EFER, 0x801))  # LME while paging is on
    guest.processor.state.cr0 = 0x11
    guest.write(EFER, 0x801)
    assert not guest.read(EFER) & 0x100


def test_what_linux_reads_without_a_net_is_there() -> None:
    guest = Guest()
    assert guest.read(HWCR) & 1 << 24  # "TSC doesn't count with P0 frequency!" otherwise
    assert guest.read(DE_CFG) & 2
    assert guest.read(APIC_BASE) == 0xFEE00D00
    guest.write(NB_CFG, guest.read(NB_CFG) | 1 << 46)
    assert guest.read(NB_CFG) == 1 << 46
    for msr in (0x10, 0x8B, 0xFE, 0x179, 0x1A0, 0x2FF, 0xC0010010):
        guest.read(msr)


def test_pat_refuses_memory_types_that_do_not_exist() -> None:
    guest = Guest()
    guest.write(PAT, 0x0007040600070406)
    fault(lambda: guest.write(PAT, 0x0007040600070402))
    fault(lambda: guest.write(PAT, 0x0807040600070406))
    assert guest.read(PAT) == 0x0007040600070406


def test_the_tap_sees_accesses_by_name_and_their_faults() -> None:
    guest = Guest()
    seen: list[MsrAccess] = []
    guest.tap.listen(MsrAccess, seen.append)
    guest.read(VP_INDEX)
    fault(lambda: guest.read(0x40000106))
    fault(lambda: guest.write(0x123, 7))
    assert [(e.name, e.write, e.value, e.fault) for e in seen] == [
        ("HV_X64_MSR_VP_INDEX", False, 0, False),
        ("HV_X64_MSR_REENLIGHTENMENT_CONTROL", False, 0, True),
        ("0x123", True, 7, True),
    ]
