"""What one VM exit costs: from the guest's instruction to a Python method that does nothing, and back.

python bench/exits.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.bare_metal import BareGuest, Recorder

COUNT = 200_000
KINDS = {
    "cpuid": "xor eax, eax; cpuid",
    "rdmsr": "mov ecx, 0x40000020; rdmsr",
    "wrmsr": "mov ecx, 0x40000070; xor eax, eax; xor edx, edx; wrmsr",
    "hypercall": "mov ecx, 0x5d; vmmcall",
    "port out": "mov dx, 0x80; out dx, al",
    "mmio load": "mov rbx, 0xfec00000; mov eax, [rbx]",
}


class Silent(Recorder):
    """Answers at once and remembers nothing."""

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        return 1, 2, 3, 4

    def read_msr(self, msr: int) -> int:
        return 0

    def write_msr(self, msr: int, value: int) -> None:
        pass

    def hypercall(self, control: int, input: int, output: int) -> int:
        return 0

    def port_out(self, port: int, size: int, value: int) -> None:
        pass

    def mmio_read(self, gpa: int, size: int) -> int:
        return 0


def seconds(body: str) -> float:
    """Time of `COUNT` rounds of a loop with that body."""
    guest = BareGuest(f"mov r12d, {COUNT}; 1: {body}; dec r12d; jnz 1b; hlt", Silent())
    started = time.perf_counter()
    guest.processor.run()
    spent = time.perf_counter() - started
    guest.close()
    return spent


def main() -> None:
    empty = min(seconds("nop") for _ in range(3))
    print(f"{'one VM exit':<14}{'ns':>8}")
    for name, body in KINDS.items():
        spent = min(seconds(body) for _ in range(3)) - empty
        print(f"{name:<14}{spent / COUNT * 1e9:>8.0f}")
    halting = BareGuest("1: hlt; jmp 1b")
    rounds = COUNT // 10
    started = time.perf_counter()
    for _ in range(rounds):
        halting.processor.run()
    print(f"{'halt and run':<14}{(time.perf_counter() - started) / rounds * 1e9:>8.0f}")
    halting.close()


if __name__ == "__main__":
    main()
