"""Register numbers and bits of the local APIC and the I/O APIC: declarations only.

Sources: Intel SDM volume 3, chapter "Advanced Programmable Interrupt Controller"; Intel 82093AA datasheet.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

APIC_HZ = 200_000_000
"""Frequency of the APIC timer before its divider, in Hz."""

APIC_DEFAULT_BASE = 0xFEE00000
APIC_MMIO_SIZE = 0x1000
X2APIC_FIRST_MSR = 0x800
X2APIC_LAST_MSR = 0x8FF

VERSION = 0x00050014
"""Integrated APIC, six LVT entries, no suppression of EOI broadcasts."""

FIRST_LEGAL_VECTOR = 16
DESTINATION_ALL = 0xFFFFFFFF
XAPIC_DESTINATION_ALL = 0xFF
DFR_FLAT = 0xFFFFFFFF


class ApicBase(IntEnum):
    """IA32_APIC_BASE (MSR 0x1b)."""

    BSP = 1 << 8
    X2APIC = 1 << 10
    ENABLED = 1 << 11


class Register(IntEnum):
    """Offsets in the MMIO page; the x2APIC MSR of an offset is 0x800 + offset / 16."""

    ID = 0x020
    VERSION = 0x030
    TPR = 0x080
    PPR = 0x0A0
    EOI = 0x0B0
    LDR = 0x0D0
    DFR = 0x0E0
    SVR = 0x0F0
    ISR = 0x100
    TMR = 0x180
    IRR = 0x200
    ESR = 0x280
    ICR = 0x300
    ICR_HIGH = 0x310
    LVT_TIMER = 0x320
    LVT_THERMAL = 0x330
    LVT_PERFORMANCE = 0x340
    LVT_LINT0 = 0x350
    LVT_LINT1 = 0x360
    LVT_ERROR = 0x370
    INITIAL_COUNT = 0x380
    CURRENT_COUNT = 0x390
    DIVIDE = 0x3E0
    SELF_IPI = 0x3F0


class Lvt(IntEnum):
    """Bits of a local vector table entry above the vector."""

    STATUS = 1 << 12
    MASKED = 1 << 16
    PERIODIC = 1 << 17


LVT_WRITABLE = {
    Register.LVT_TIMER: 0x000300FF,
    Register.LVT_THERMAL: 0x000107FF,
    Register.LVT_PERFORMANCE: 0x000107FF,
    Register.LVT_LINT0: 0x0001A7FF,
    Register.LVT_LINT1: 0x0001A7FF,
    Register.LVT_ERROR: 0x000100FF,
}
LVT_READ_ONLY = 0x00005000
"""Delivery status and remote IRR: writing them does nothing."""

SVR_ENABLED = 1 << 8
SVR_WRITABLE = 0x000003FF
SVR_RESET = 0x000000FF
DIVIDE_WRITABLE = 0x0000000B


class ApicError(IntEnum):
    """Error status register."""

    SEND_ILLEGAL_VECTOR = 1 << 5
    RECEIVE_ILLEGAL_VECTOR = 1 << 6
    ILLEGAL_REGISTER = 1 << 7


class DeliveryMode(IntEnum):
    """How an interrupt message is to be taken."""

    FIXED = 0
    LOWEST_PRIORITY = 1
    SMI = 2
    NMI = 4
    INIT = 5
    STARTUP = 6
    EXTINT = 7


class Shorthand(IntEnum):
    """Destination shorthand of an interrupt command."""

    NONE = 0
    SELF = 1
    ALL = 2
    OTHERS = 3


ICR_STATUS = 1 << 12
ICR_LOW_WRITABLE = 0x000CCFFF
ICR_LOW_RESERVED = 0xFFF32000


class InterruptCommand(NamedTuple):
    """A decoded interrupt command register; `destination` is 32 bits (x2APIC form)."""

    vector: int
    mode: int
    logical: bool
    assert_level: bool
    level_triggered: bool
    shorthand: int
    destination: int

    @classmethod
    def decode(cls, icr: int) -> InterruptCommand:
        """The parts of a 64-bit interrupt command in x2APIC form."""
        return cls(
            vector=icr & 0xFF,
            mode=icr >> 8 & 7,
            logical=bool(icr & 1 << 11),
            assert_level=bool(icr & 1 << 14),
            level_triggered=bool(icr & 1 << 15),
            shorthand=icr >> 18 & 3,
            destination=icr >> 32,
        )


class IoApicRegister(IntEnum):
    """Indirect registers of the I/O APIC; two for each pin from REDIRECTION on."""

    ID = 0x00
    VERSION = 0x01
    ARBITRATION = 0x02
    REDIRECTION = 0x10


class IoApicWindow(IntEnum):
    """Offsets in the I/O APIC's MMIO page."""

    SELECT = 0x00
    DATA = 0x10
    EOI = 0x40


class Redirection(IntEnum):
    """Bits of an I/O APIC redirection entry; the vector is in bits 0–7, the destination in 56–63."""

    LOGICAL = 1 << 11
    STATUS = 1 << 12
    ACTIVE_LOW = 1 << 13
    REMOTE_IRR = 1 << 14
    LEVEL = 1 << 15
    MASKED = 1 << 16


REDIRECTION_WRITABLE = 0xFF00000000000000 | 0x0001AFFF
