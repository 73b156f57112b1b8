"""The table of model-specific registers: every one that a guest may touch, by name.

A row says what the register needs (a privilege or a feature of the profile), which bits must be zero, and
how it is bound to a virtual processor. A row without `read` cannot be read, one without `write` cannot be
written: the guest gets #GP, as it does for a reserved bit that is set, for a register whose privilege it
lacks, and for one that is not here. Registers that the engine keeps itself (SYSCALL, FS and GS bases, PAT
on the software processor) do not come here.

Sources: TLFS (number and name as there); AMD64 Architecture Programmer's Manual volume 2, appendix A.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ringminus.hypervisor import wire
from ringminus.hypervisor.apic_registers import X2APIC_FIRST_MSR, X2APIC_LAST_MSR, Register
from ringminus.hypervisor.architectural import MICROCODE_REVISION
from ringminus.hypervisor.cpuid import Profile
from ringminus.hypervisor.wire import Feature, Privilege

if TYPE_CHECKING:
    from ringminus.hypervisor.vp import VirtualProcessor

Reader = Callable[[], int]
Writer = Callable[[int], None]
BindRead = Callable[["VirtualProcessor"], Reader]
BindWrite = Callable[["VirtualProcessor"], Writer]

NO_PRIVILEGE, NO_FEATURE = Privilege(0), Feature(0)
HIGH_HALF = 0xFFFFFFFF << 32
ALL_BUT_BIT_0 = (1 << 64) - 2
ALL_BUT_BYTE_0 = (1 << 64) - 256


@dataclass(frozen=True, slots=True)
class Msr:
    """A register. `read` and `write` give a virtual processor's accessor; `reserved` bits must be zero."""

    number: int
    name: str
    read: BindRead | None = None
    write: BindWrite | None = None
    needs: Privilege = NO_PRIVILEGE
    feature: Feature = NO_FEATURE
    reserved: int = 0

    def offered(self, profile: Profile) -> bool:
        """Whether the profile gives the guest what the register needs."""
        return self.needs in profile.privileges and self.feature in profile.features


def _constant(value: int) -> BindRead:
    return lambda vp: lambda: value


def _ignored(vp: VirtualProcessor) -> Writer:
    return lambda value: None


PARTITION = (
    Msr(
        *(0x40000000, "HV_X64_MSR_GUEST_OS_ID"),
        lambda vp: vp.partition.interface.read_guest_os_id,
        lambda vp: vp.partition.interface.write_guest_os_id,
        Privilege.HYPERCALL,
    ),
    Msr(
        *(0x40000001, "HV_X64_MSR_HYPERCALL"),
        lambda vp: vp.partition.interface.read_hypercall,
        lambda vp: vp.partition.interface.write_hypercall,
        Privilege.HYPERCALL,
    ),
    Msr(
        *(0x40000003, "HV_X64_MSR_RESET"),
        lambda vp: vp.read_reset,
        lambda vp: vp.write_reset,
        Privilege.RESET,
        reserved=ALL_BUT_BIT_0,
    ),
    Msr(
        *(0x40000020, "HV_X64_MSR_TIME_REF_COUNT"),
        lambda vp: vp.partition.time.read_count,
        needs=Privilege.REFERENCE_COUNTER,
    ),
    Msr(
        *(0x40000021, "HV_X64_MSR_REFERENCE_TSC"),
        lambda vp: vp.partition.time.read_reference_tsc,
        lambda vp: vp.partition.time.write_reference_tsc,
        Privilege.REFERENCE_TSC,
    ),
    Msr(
        *(0x40000022, "HV_X64_MSR_TSC_FREQUENCY"),
        lambda vp: vp.partition.time.read_tsc_frequency,
        needs=Privilege.FREQUENCIES,
    ),
    Msr(
        *(0x40000023, "HV_X64_MSR_APIC_FREQUENCY"),
        lambda vp: vp.partition.time.read_apic_frequency,
        needs=Privilege.FREQUENCIES,
    ),
    Msr(
        *(0x40000118, "HV_X64_MSR_TSC_INVARIANT_CONTROL"),
        lambda vp: vp.read_tsc_invariant,
        lambda vp: vp.write_tsc_invariant,
        Privilege.TSC_INVARIANT_CONTROL,
        reserved=ALL_BUT_BIT_0,
    ),
)

PROCESSOR = (
    Msr(0x40000002, "HV_X64_MSR_VP_INDEX", lambda vp: vp.read_index, needs=Privilege.VP_INDEX),
    Msr(0x40000010, "HV_X64_MSR_VP_RUNTIME", lambda vp: vp.read_runtime, needs=Privilege.VP_RUNTIME),
    Msr(
        *(0x40000070, "HV_X64_MSR_EOI"),
        write=lambda vp: vp.write_eoi,
        needs=Privilege.INTERRUPT_CONTROL,
        reserved=HIGH_HALF,
    ),
    Msr(
        *(0x40000071, "HV_X64_MSR_ICR"),
        lambda vp: vp.read_icr,
        lambda vp: vp.write_icr,
        Privilege.INTERRUPT_CONTROL,
    ),
    Msr(
        *(0x40000072, "HV_X64_MSR_TPR"),
        lambda vp: vp.read_tpr,
        lambda vp: vp.write_tpr,
        Privilege.INTERRUPT_CONTROL,
        reserved=ALL_BUT_BYTE_0,
    ),
    # no privilege: Linux writes it whatever the profile says, without expecting #GP
    Msr(
        *(0x40000073, "HV_X64_MSR_VP_ASSIST_PAGE"),
        lambda vp: vp.read_assist_page,
        lambda vp: vp.write_assist_page,
    ),
    Msr(0x400000F0, "HV_X64_MSR_GUEST_IDLE", lambda vp: vp.read_guest_idle, needs=Privilege.GUEST_IDLE),
)

SYNIC = (
    Msr(
        *(0x40000080, "HV_X64_MSR_SCONTROL"),
        lambda vp: vp.synic.read_control,
        lambda vp: vp.synic.write_control,
        Privilege.SYNIC,
    ),
    Msr(0x40000081, "HV_X64_MSR_SVERSION", lambda vp: vp.synic.read_version, needs=Privilege.SYNIC),
    Msr(
        *(0x40000082, "HV_X64_MSR_SIEFP"),
        lambda vp: vp.synic.read_siefp,
        lambda vp: vp.synic.write_siefp,
        Privilege.SYNIC,
    ),
    Msr(
        *(0x40000083, "HV_X64_MSR_SIMP"),
        lambda vp: vp.synic.read_simp,
        lambda vp: vp.synic.write_simp,
        Privilege.SYNIC,
    ),
    Msr(
        *(0x40000084, "HV_X64_MSR_EOM"),
        lambda vp: vp.synic.read_eom,
        lambda vp: vp.synic.write_eom,
        Privilege.SYNIC,
    ),
)


def _sint(index: int) -> Msr:
    return Msr(
        *(0x40000090 + index, f"HV_X64_MSR_SINT{index}"),
        lambda vp: partial(vp.synic.read_sint, index),
        lambda vp: partial(vp.synic.write_sint, index),
        Privilege.SYNIC,
    )


def _timer(index: int) -> Iterator[Msr]:
    yield Msr(
        *(0x400000B0 + 2 * index, f"HV_X64_MSR_STIMER{index}_CONFIG"),
        lambda vp: vp.timers[index].read_config,
        lambda vp: vp.timers[index].write_config,
        Privilege.SYNTHETIC_TIMERS,
        reserved=wire.TimerConfig.RESERVED,
    )
    yield Msr(
        *(0x400000B1 + 2 * index, f"HV_X64_MSR_STIMER{index}_COUNT"),
        lambda vp: vp.timers[index].read_count,
        lambda vp: vp.timers[index].write_count,
        Privilege.SYNTHETIC_TIMERS,
    )


def _crash_parameter(index: int) -> Msr:
    return Msr(
        *(0x40000100 + index, f"HV_X64_MSR_CRASH_P{index}"),
        lambda vp: partial(vp.crash.read_parameter, index),
        lambda vp: partial(vp.crash.write_parameter, index),
        feature=Feature.CRASH_MSRS,
    )


CRASH_CONTROL = Msr(
    *(0x40000105, "HV_X64_MSR_CRASH_CTL"),
    lambda vp: vp.crash.read_control,
    lambda vp: vp.crash.write_control,
    feature=Feature.CRASH_MSRS,
)

# Registers of the TLFS that no profile offers: named, so that a log of #GP says what the guest wanted.
NOT_OFFERED = (
    Msr(0x40000040, "HV_X64_MSR_NPIEP_CONFIG"),
    Msr(0x400000E0, "HV_X64_MSR_STATS_PARTITION_RETAIL_PAGE"),
    Msr(0x400000E1, "HV_X64_MSR_STATS_PARTITION_INTERNAL_PAGE"),
    Msr(0x400000E2, "HV_X64_MSR_STATS_VP_RETAIL_PAGE"),
    Msr(0x400000E3, "HV_X64_MSR_STATS_VP_INTERNAL_PAGE"),
    Msr(0x400000F1, "HV_X64_MSR_SYNTH_DEBUG_CONTROL"),
    Msr(0x400000F2, "HV_X64_MSR_SYNTH_DEBUG_STATUS"),
    Msr(0x400000F3, "HV_X64_MSR_SYNTH_DEBUG_SEND_BUFFER"),
    Msr(0x400000F4, "HV_X64_MSR_SYNTH_DEBUG_RECEIVE_BUFFER"),
    Msr(0x400000F5, "HV_X64_MSR_SYNTH_DEBUG_PENDING_BUFFER"),
    Msr(0x400000FF, "HV_X64_MSR_SYNTH_DEBUG_OPTIONS"),
    Msr(0x40000106, "HV_X64_MSR_REENLIGHTENMENT_CONTROL"),
    Msr(0x40000107, "HV_X64_MSR_TSC_EMULATION_CONTROL"),
    Msr(0x40000108, "HV_X64_MSR_TSC_EMULATION_STATUS"),
    Msr(0x40000114, "HV_X64_MSR_STIME_UNHALTED_TIMER_CONFIG"),
    Msr(0x40000115, "HV_X64_MSR_STIME_UNHALTED_TIMER_COUNT"),
)

# The same of AMD's processors that Linux tries: its names.
NOT_THERE = (
    *(Msr(0xC0010000 + index, f"PERF_CTL{index}") for index in range(4)),
    *(Msr(0xC0010004 + index, f"PERF_CTR{index}") for index in range(4)),
    Msr(0xC0011020, "LS_CFG"),
    Msr(0xC0011028, "FP_CFG"),
)

ARCHITECTURAL = (
    # the guest's TSC is tied to the reference page, so a write is accepted and changes nothing
    Msr(0x00000010, "TSC", lambda vp: vp.partition.time.read_tsc, _ignored),
    Msr(
        *(0x0000001B, "APIC_BASE"),
        lambda vp: vp.apic.read_apic_base,
        lambda vp: vp.apic.write_apic_base,
    ),
    Msr(0x0000008B, "PATCH_LEVEL", _constant(MICROCODE_REVISION), _ignored),
    Msr(0x000000FE, "MTRR_CAP", _constant(0)),  # no variable and no fixed ranges
    Msr(0x00000179, "MCG_CAP", _constant(0)),  # no banks
    Msr(0x0000017A, "MCG_STATUS", _constant(0), _ignored),
    Msr(0x000001A0, "MISC_ENABLE", _constant(1), _ignored),  # fast string instructions
    Msr(0x000001D9, "DEBUG_CTL", _constant(0), _ignored),
    Msr(0x00000277, "PAT", lambda vp: vp.msrs.read_pat, lambda vp: vp.msrs.write_pat),
    Msr(
        *(0x000002FF, "MTRR_DEF_TYPE"),
        lambda vp: vp.msrs.read_mtrr_default,
        lambda vp: vp.msrs.write_mtrr_default,
    ),
    Msr(0xC0000080, "EFER", lambda vp: vp.msrs.read_efer, lambda vp: vp.msrs.write_efer),
    Msr(0xC0010010, "SYSCFG", _constant(0), _ignored),
    Msr(0xC0010015, "HWCR", lambda vp: vp.msrs.read_hwcr, lambda vp: vp.msrs.write_hwcr),
    Msr(0xC001001A, "TOP_MEM", _constant(0)),
    Msr(0xC001001D, "TOP_MEM2", _constant(0)),
    Msr(0xC001001F, "NB_CFG", lambda vp: vp.msrs.read_nb_cfg, lambda vp: vp.msrs.write_nb_cfg),
    Msr(0xC0011029, "DE_CFG", lambda vp: vp.msrs.read_de_cfg, lambda vp: vp.msrs.write_de_cfg),
)


_APIC_NAMES = {one.value: one.name for one in Register}


def _x2apic(number: int) -> Msr:
    offset = (number - X2APIC_FIRST_MSR) << 4
    return Msr(
        *(number, f"X2APIC_{_APIC_NAMES.get(offset) or f'{offset:03X}'}"),
        lambda vp: partial(vp.apic.read_msr, number),
        lambda vp: partial(vp.apic.write_msr, number),
    )


MSRS: dict[int, Msr] = {
    msr.number: msr
    for msr in (
        *PARTITION,
        *PROCESSOR,
        *SYNIC,
        *(_sint(index) for index in range(wire.SINTS)),
        *(msr for index in range(wire.SYNTHETIC_TIMERS) for msr in _timer(index)),
        *(_crash_parameter(index) for index in range(wire.CRASH_PARAMETERS)),
        CRASH_CONTROL,
        *NOT_OFFERED,
        *NOT_THERE,
        *ARCHITECTURAL,
        *(_x2apic(number) for number in range(X2APIC_FIRST_MSR, X2APIC_LAST_MSR + 1)),
    )
}


def name_of(number: int) -> str:
    """The register's name, or its number."""
    msr = MSRS.get(number)
    return f"{number:#x}" if msr is None else msr.name


def bind(vp: VirtualProcessor, profile: Profile) -> tuple[dict[int, Reader], dict[int, tuple[int, Writer]]]:
    """A virtual processor's readers, and its writers with their reserved bits, by number."""
    readers: dict[int, Reader] = {}
    writers: dict[int, tuple[int, Writer]] = {}
    for number, msr in MSRS.items():
        if not msr.offered(profile):
            continue
        if msr.read is not None:
            readers[number] = msr.read(vp)
        if msr.write is not None:
            writers[number] = msr.reserved, msr.write(vp)
    return readers, writers
