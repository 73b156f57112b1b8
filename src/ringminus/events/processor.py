"""Where a guest leaves guest mode, and what its processor does that nothing leaves for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ringminus.changes import ANSWER, DROP, Kind
from ringminus.events.base import Event


@dataclass(slots=True, eq=False, repr=False)
class VmExit(Event):
    """The guest left guest mode and was answered.

    `reason` is the exit's name (`cpuid`, `rdmsr`, `wrmsr`, `hypercall`, `port-in`, `mmio-read`, …), `rip` the
    instruction that caused it (of `mmio` the beginning of its straight run of instructions: the software
    processor does not know better), `detail` what it was about (a leaf, an MSR, a port, a call code), `ns`
    the time that answering took on the host.
    """

    POINT = "exits"
    NAME = "exit"
    reason: str
    rip: int
    detail: int
    ns: int


@dataclass(slots=True, eq=False, repr=False)
class CpuidRead(Event):
    """CPUID was executed: a leaf of what the guest is told about its processor and its hypervisor.

    What it is told can be changed: `eax`, `ebx`, `ecx` and `edx`."""

    POINT = "cpuid"
    NAME = "cpuid"
    SETTABLE: ClassVar[Mapping[str, Kind]] = dict.fromkeys(("eax", "ebx", "ecx", "edx"), 32)
    leaf: int
    subleaf: int
    eax: int
    ebx: int
    ecx: int
    edx: int


@dataclass(slots=True, eq=False, repr=False)
class MsrAccess(Event):
    """RDMSR or WRMSR that was intercepted; `fault` tells that the guest was given #GP.

    A write can be changed before it is carried out: `value`, and `fault` to give #GP instead; dropped, it
    does nothing. A read can be changed when it has been carried out: `value` is what the guest gets, or #GP
    with `fault`.
    """

    POINT = "msrs"
    NAME = "msr"
    MAY = frozenset((DROP, ANSWER))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"value": 64, "fault": bool}
    msr: int
    name: str
    write: bool
    value: int
    fault: bool

    def answer(self, value: int = 0, *, fault: bool = False) -> None:
        """Give the guest this value, or #GP, in the hypervisor's place; a write is not carried out."""
        self._may(ANSWER).answer = b""
        self.value, self.fault = value, fault


@dataclass(slots=True, eq=False, repr=False)
class Hypercall(Event):
    """A hypercall and its answer. `control`, `input`, `output` are RCX, RDX and R8; `result` is RAX.

    `detail` holds the decoded input header where the call is known, `status` the name of the result's status,
    `block` the input's bytes, of memory or registers, as far as they could be read.

    Before it is carried out `control`, `input`, `output` and `block` can be changed: the call is made with
    what they are then, and the guest's registers and memory stay as they are. Dropped, it does nothing and
    the guest gets SUCCESS; answered, it does nothing and the guest gets that. With its result `result` can
    be changed.
    """

    POINT = "hypercalls"
    NAME = "hypercall"
    MAY = frozenset((DROP, ANSWER))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {
        **dict.fromkeys(("control", "input", "output", "result"), 64),
        "block": bytes,
    }
    code: int
    name: str
    control: int
    input: int
    output: int
    result: int
    status: str
    detail: str
    block: bytes = b""

    def answer(self, result: int = 0) -> None:
        """Give the guest this in RAX, a status in its low 16 bits, in the hypervisor's place."""
        self._may(ANSWER).answer = b""
        self.result = result


@dataclass(slots=True, eq=False, repr=False)
class PortIo(Event):
    """An access to an I/O port, `size` in bytes.

    A write can be changed before the device gets it, and dropped; of a read, `value` is what the guest
    gets."""

    POINT = "ports"
    NAME = "port"
    MAY = frozenset((DROP,))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"value": 32}
    port: int
    size: int
    write: bool
    value: int


@dataclass(slots=True, eq=False, repr=False)
class MmioAccess(Event):
    """An access to guest-physical memory that is no RAM, `size` in bytes.

    A write can be changed before the device gets it, and dropped; of a read, `value` is what the guest
    gets."""

    POINT = "mmio"
    NAME = "mmio"
    MAY = frozenset((DROP,))
    SETTABLE: ClassVar[Mapping[str, Kind]] = {"value": 64}
    gpa: int
    size: int
    write: bool
    value: int


@dataclass(slots=True, eq=False, repr=False)
class PageFault(Event):
    """The guest's processor raised a page fault, which the guest's kernel deals with itself: nothing leaves
    the guest.

    `address` is CR2, `rip` the instruction. The rest is the error code: whether the page was `present` and
    forbidden, or not there; whether it was a `write` or a `fetch` of an instruction, neither being a read;
    whether by the guest's `user` programs; and whether the page tables have `reserved` bits set."""

    POINT = "faults"
    NAME = "fault"
    ON_DEMAND = True
    address: int
    rip: int
    present: bool
    write: bool
    fetch: bool
    user: bool
    reserved: bool


@dataclass(slots=True, eq=False, repr=False)
class Halt(Event):
    """A virtual processor had nothing to do until an interrupt came, for `idle` units of 100 ns. It said so
    by `how`: `hlt`, or by reading the register `guest idle`. `rip` is where it goes on."""

    POINT = "halts"
    NAME = "halt"
    how: str
    rip: int
    idle: int
