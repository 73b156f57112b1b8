"""Whom an interrupt message is for: physical and logical destinations of both APIC modes.

Source: Intel SDM volume 3, "Determining IPI Destination" and "Logical Destination Mode in x2APIC Mode".
"""

from __future__ import annotations

from ringminus.hypervisor.apic_registers import DESTINATION_ALL, DFR_FLAT, XAPIC_DESTINATION_ALL


def x2apic_ldr(apic_id: int) -> int:
    """The logical destination register of x2APIC mode: a cluster, and a bit in it."""
    return apic_id >> 4 << 16 | 1 << (apic_id & 15)


def matches_x2apic(destination: int, logical: bool, apic_id: int) -> bool:
    """Whether a message for `destination` (32 bits) is for the APIC of that id in x2APIC mode."""
    if destination == DESTINATION_ALL:
        return True
    if not logical:
        return destination == apic_id
    ldr = x2apic_ldr(apic_id)
    return destination >> 16 == ldr >> 16 and bool(destination & ldr & 0xFFFF)


def matches_xapic(destination: int, logical: bool, apic_id: int, ldr: int, dfr: int) -> bool:
    """The same in xAPIC mode, with the APIC's registers LDR and DFR."""
    if destination in (DESTINATION_ALL, XAPIC_DESTINATION_ALL):
        return True
    if not logical:
        return destination == apic_id & 0xFF
    own = ldr >> 24
    if dfr == DFR_FLAT:
        return bool(destination & own)
    return destination >> 4 == own >> 4 and bool(destination & own & 0xF)
