"""HV_REGISTER_NAME: the synthetic registers as HvCallGetVpRegisters and …Set name them.

Each is another name of an MSR or of a CPUID leaf. Source: TLFS, datatypes/hv_register_name.md.
"""

from __future__ import annotations

from ringminus.hypervisor.cpuid import (
    HARDWARE_FEATURES,
    HYPERVISOR_FEATURES,
    HYPERVISOR_VERSION,
    IMPLEMENTATION_LIMITS,
    RECOMMENDATIONS,
)
from ringminus.hypervisor.msrs import MSRS
from ringminus.hypervisor.wire import CRASH_PARAMETERS, SINTS, SYNTHETIC_TIMERS

INFORMATION_LEAVES: dict[int, int] = {
    0x00000100: HYPERVISOR_VERSION,
    0x00000200: HYPERVISOR_FEATURES,
    0x00000201: RECOMMENDATIONS,
    0x00000202: IMPLEMENTATION_LIMITS,
    0x00000203: HARDWARE_FEATURES,
}

_NUMBERS = {msr.name: number for number, msr in MSRS.items()}


def _named(name: str) -> int:
    return _NUMBERS[f"HV_X64_MSR_{name}"]


REGISTER_MSRS: dict[int, int] = {
    **{0x00000210 + index: _named(f"CRASH_P{index}") for index in range(CRASH_PARAMETERS)},
    0x00000215: _named("CRASH_CTL"),
    0x00000250: _named("GUEST_IDLE"),
    0x00090000: _named("VP_RUNTIME"),
    0x00090002: _named("GUEST_OS_ID"),
    0x00090003: _named("VP_INDEX"),
    0x00090004: _named("TIME_REF_COUNT"),
    0x00090013: _named("VP_ASSIST_PAGE"),
    0x00090017: _named("REFERENCE_TSC"),
    **{0x000A0000 + index: _named(f"SINT{index}") for index in range(SINTS)},
    0x000A0010: _named("SCONTROL"),
    0x000A0011: _named("SVERSION"),
    0x000A0012: _named("SIEFP"),
    0x000A0013: _named("SIMP"),
    0x000A0014: _named("EOM"),
    **{0x000B0000 + 2 * index: _named(f"STIMER{index}_CONFIG") for index in range(SYNTHETIC_TIMERS)},
    **{0x000B0001 + 2 * index: _named(f"STIMER{index}_COUNT") for index in range(SYNTHETIC_TIMERS)},
}
