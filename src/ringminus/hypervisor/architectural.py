"""The architectural MSRs that a guest finds on this processor, beside those the engine keeps itself.

An AMD family 17h processor as Linux, the BSDs and firmware expect it: what they read without being able to
survive #GP is here; optional features (performance counters, microcode loading, machine checks, memory
encryption) are absent as CPUID says, and their MSRs give #GP as on hardware.
Source: AMD64 Architecture Programmer's Manual volume 2, appendix A.
"""

from __future__ import annotations

from typing import Any

from ringminus.cpu.engine import Processor, general_protection

EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE = 1 << 0, 1 << 8, 1 << 10, 1 << 11
EFER_WRITABLE = EFER_SCE | EFER_LME | EFER_NXE
CR0_PAGING = 1 << 31
HWCR_TSC_FREQUENCY_SELECT = 1 << 24  # the TSC counts with the P0 frequency: Linux complains without it
DE_CFG_LFENCE_SERIALIZES = 1 << 1
MICROCODE_REVISION = 0x0800126E
MTRR_DEFAULT_WRITE_BACK = 6
MTRR_ENABLED = 1 << 11
PAT_RESET = 0x0007040600070406


class ArchitecturalMsrs:
    """Registers with state; the constants among them are in the table of `msrs`."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        self.hwcr = 0
        self.de_cfg = 0
        self.nb_cfg = 0
        self.mtrr_default = MTRR_ENABLED | MTRR_DEFAULT_WRITE_BACK
        self.pat = PAT_RESET

    def read_efer(self) -> int:
        return self.processor.efer

    def write_efer(self, value: int) -> None:
        """#GP for a bit that CPUID does not offer, and for a change of LME while paging is on."""
        if value & ~(EFER_WRITABLE | EFER_LMA):
            raise general_protection()
        current = self.processor.efer
        if (value ^ current) & EFER_LME and self.processor.registers().cr0 & CR0_PAGING:
            raise general_protection()
        self.processor.set_efer(value & EFER_WRITABLE | current & EFER_LMA)

    def read_hwcr(self) -> int:
        return self.hwcr | HWCR_TSC_FREQUENCY_SELECT

    def write_hwcr(self, value: int) -> None:
        self.hwcr = value

    def read_de_cfg(self) -> int:
        return self.de_cfg | DE_CFG_LFENCE_SERIALIZES

    def write_de_cfg(self, value: int) -> None:
        self.de_cfg = value

    def read_nb_cfg(self) -> int:
        return self.nb_cfg

    def write_nb_cfg(self, value: int) -> None:
        """Linux enables extended PCI configuration by port here, without asking whether there is PCI."""
        self.nb_cfg = value

    def read_mtrr_default(self) -> int:
        return self.mtrr_default

    def write_mtrr_default(self, value: int) -> None:
        self.mtrr_default = value

    def read_pat(self) -> int:
        return self.pat

    def write_pat(self, value: int) -> None:
        """#GP for a memory type that does not exist (2, 3 and above 7)."""
        if any(kind in (2, 3) or kind > 7 for kind in value.to_bytes(8, "little")):
            raise general_protection()
        self.pat = value

    def save(self) -> dict[str, Any]:
        """State as plain data."""
        names = ("hwcr", "de_cfg", "nb_cfg", "mtrr_default", "pat")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
