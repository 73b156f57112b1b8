"""What gdb is told of the processor: its registers, their order and types, and how each is read and set.

Names and order of the core and SSE features are gdb's own (`features/i386/64bit-core.xml`, `64bit-sse.xml`,
`64bit-segments.xml`), what stands in the feature behind them is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from ringminus.cpu.engine import GENERAL, Processor

ARCHITECTURE = "i386:x86-64"
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
# gdb's order of the general registers, by the names of the hardware's
ORDER = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{number}" for number in range(8, 16)))

Read = Callable[["Snapshot"], int]
Write = Callable[[Processor, int], None]


class ReadOnlyRegister(Exception):
    """A register that a debugger cannot set."""


class Snapshot:
    """A processor's registers, taken at most once for a whole `g` packet."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        self.registers = processor.registers()
        self._debug = processor.debug()
        self.floating = self._debug.floating_point()

    @property
    def kernel_gs_base(self) -> int:
        return self._debug.kernel_gs_base


@dataclass(frozen=True, slots=True)
class Register:
    """A register's place in the description: `bits` wide, of gdb's type `kind`, in the group `group`."""

    name: str
    bits: int
    kind: str
    read: Read
    write: Write
    group: str = ""

    @property
    def size(self) -> int:
        """In bytes."""
        return self.bits // 8


@dataclass(frozen=True, slots=True)
class Feature:
    """A group of registers that gdb knows by name, with the XML of its own types."""

    name: str
    registers: tuple[Register, ...]
    types: str = ""


# ------------------------------------------------------------ how each kind is read and set


def _refuse(name: str, _processor: Processor, _value: int) -> None:
    raise ReadOnlyRegister(name)


def _read_only(name: str) -> Write:
    return partial(_refuse, name)


def _change(field: str, processor: Processor, value: int) -> None:
    registers = processor.registers()
    setattr(registers, field, value)
    processor.set_registers(registers)


def _change_base(segment: str, processor: Processor, value: int) -> None:
    registers = processor.registers()
    getattr(registers, segment).base = value
    processor.set_registers(registers)


def _general(name: str) -> Register:
    number = GENERAL.index(name)
    kind = "data_ptr" if name in ("rsp", "rbp") else "int64"
    return Register(
        name,
        64,
        kind,
        lambda snapshot: snapshot.registers.general[number],
        lambda processor, value: processor.set_general_register(number, value),
    )


def _field(name: str, field: str, bits: int, kind: str, group: str = "") -> Register:
    def read(snapshot: Snapshot) -> int:
        return int(getattr(snapshot.registers, field))

    return Register(name, bits, kind, read, partial(_change, field), group)


def _selector(name: str) -> Register:
    def read(snapshot: Snapshot) -> int:
        return int(getattr(snapshot.registers, name).selector)

    # what a selector means was read from the descriptor tables when it was loaded
    return Register(name, 32, "int32", read, _read_only(name))


def _base(name: str, segment: str, group: str = "") -> Register:
    def read(snapshot: Snapshot) -> int:
        return int(getattr(snapshot.registers, segment).base)

    return Register(name, 64, "int", read, partial(_change_base, segment), group)


def _stack(number: int) -> Register:
    def write(processor: Processor, value: int) -> None:
        debug = processor.debug()
        state = debug.floating_point()
        state.stack[number] = value
        state.tag &= ~(3 << 2 * ((number + (state.status >> 11)) & 7))  # it is not empty any more
        debug.set_floating_point(state)

    return Register(
        f"st{number}", 80, "i387_ext", lambda snapshot: snapshot.floating.stack[number], write, "float"
    )


def _floating(name: str, field: str, kind: str = "int", group: str = "float") -> Register:
    def read(snapshot: Snapshot) -> int:
        return int(getattr(snapshot.floating, field))

    def write(processor: Processor, value: int) -> None:
        debug = processor.debug()
        state = debug.floating_point()
        setattr(state, field, value & 0xFFFF)
        debug.set_floating_point(state)

    return Register(name, 32, kind, read, write, group)


def _absent(name: str) -> Register:
    """Where the last x87 instruction and its operand were, which the processor does not keep."""
    return Register(name, 32, "int", lambda _: 0, _read_only(name), "float")


def _xmm(number: int) -> Register:
    return Register(
        f"xmm{number}",
        128,
        "vec128",
        lambda snapshot: snapshot.processor.xmm(number),
        lambda processor, value: processor.set_xmm(number, value),
        "vector",
    )


# ------------------------------------------------------------ the description

EFLAGS = (
    *(
        ("CF", 0),
        ("", 1),
        ("PF", 2),
        ("AF", 4),
        ("ZF", 6),
        ("SF", 7),
        ("TF", 8),
        ("IF", 9),
        ("DF", 10),
        ("OF", 11),
    ),
    *(("NT", 14), ("RF", 16), ("VM", 17), ("AC", 18), ("VIF", 19), ("VIP", 20), ("ID", 21)),
)
MXCSR = (
    *(("IE", 0), ("DE", 1), ("ZE", 2), ("OE", 3), ("UE", 4), ("PE", 5), ("DAZ", 6), ("IM", 7), ("DM", 8)),
    *(("ZM", 9), ("OM", 10), ("UM", 11), ("PM", 12), ("FZ", 15)),
)
CR0 = (
    *(("PE", 0), ("MP", 1), ("EM", 2), ("TS", 3), ("ET", 4), ("NE", 5), ("WP", 16), ("AM", 18)),
    *(("NW", 29), ("CD", 30), ("PG", 31)),
)
CR4 = (
    *(
        ("VME", 0),
        ("PVI", 1),
        ("TSD", 2),
        ("DE", 3),
        ("PSE", 4),
        ("PAE", 5),
        ("MCE", 6),
        ("PGE", 7),
        ("PCE", 8),
    ),
    *(("OSFXSR", 9), ("OSXMMEXCPT", 10), ("UMIP", 11), ("LA57", 12), ("FSGSBASE", 16), ("PCIDE", 17)),
    *(("OSXSAVE", 18), ("SMEP", 20), ("SMAP", 21), ("PKE", 22)),
)
EFER = (("SCE", 0), ("LME", 8), ("LMA", 10), ("NXE", 11), ("SVME", 12), ("LMSLE", 13), ("FFXSR", 14))
VECTORS = (
    *(("v4f", "ieee_single", 4), ("v2d", "ieee_double", 2), ("v16i8", "int8", 16), ("v8i16", "int16", 8)),
    *(("v4i32", "int32", 4), ("v2i64", "int64", 2)),
)
VECTOR_FIELDS = (
    *(("v4_float", "v4f"), ("v2_double", "v2d"), ("v16_int8", "v16i8"), ("v8_int16", "v8i16")),
    *(("v4_int32", "v4i32"), ("v2_int64", "v2i64"), ("uint128", "uint128")),
)


def _flags(name: str, size: int, bits: tuple[tuple[str, int], ...]) -> str:
    fields = "".join(f'<field name="{field}" start="{bit}" end="{bit}"/>' for field, bit in bits)
    return f'<flags id="{name}" size="{size}">{fields}</flags>'


def _vector_types() -> str:
    vectors = "".join(f'<vector id="{name}" type="{kind}" count="{count}"/>' for name, kind, count in VECTORS)
    fields = "".join(f'<field name="{name}" type="{kind}"/>' for name, kind in VECTOR_FIELDS)
    return f'{vectors}<union id="vec128">{fields}</union>'


FEATURES = (
    Feature(
        "org.gnu.gdb.i386.core",
        (
            *map(_general, ORDER),
            _field("rip", "rip", 64, "code_ptr"),
            _field("eflags", "rflags", 32, "i386_eflags"),
            *map(_selector, SEGMENTS),
            *map(_stack, range(8)),
            _floating("fctrl", "control"),
            _floating("fstat", "status"),
            _floating("ftag", "tag"),
            *map(_absent, ("fiseg", "fioff", "foseg", "fooff", "fop")),
        ),
        _flags("i386_eflags", 4, EFLAGS),
    ),
    Feature(
        "org.gnu.gdb.i386.sse",
        (*map(_xmm, range(16)), _floating("mxcsr", "mxcsr", "i386_mxcsr", "vector")),
        _vector_types() + _flags("i386_mxcsr", 4, MXCSR),
    ),
    Feature("org.gnu.gdb.i386.segments", (_base("fs_base", "fs"), _base("gs_base", "gs"))),
    Feature(
        "org.ringminus.system",
        (
            Register(
                "k_gs_base",
                64,
                "int",
                lambda snapshot: snapshot.kernel_gs_base,
                lambda processor, value: processor.debug().set_kernel_gs_base(value),
                "system",
            ),
            _field("cr0", "cr0", 64, "x64_cr0", "system"),
            _field("cr2", "cr2", 64, "int", "system"),
            _field("cr3", "cr3", 64, "int", "system"),
            _field("cr4", "cr4", 64, "x64_cr4", "system"),
            _field("efer", "efer", 64, "x64_efer", "system"),
            _base("gdt_base", "gdtr", "system"),
            _base("idt_base", "idtr", "system"),
            _base("tr_base", "tr", "system"),
        ),
        _flags("x64_cr0", 8, CR0) + _flags("x64_cr4", 8, CR4) + _flags("x64_efer", 8, EFER),
    ),
)
REGISTERS = tuple(register for feature in FEATURES for register in feature.registers)


@cache
def description() -> bytes:
    """The document `target.xml`."""
    lines = [
        '<?xml version="1.0"?>',
        '<!DOCTYPE target SYSTEM "gdb-target.dtd">',
        f'<target version="1.0"><architecture>{ARCHITECTURE}</architecture>',
    ]
    for feature in FEATURES:
        lines.append(f'<feature name="{feature.name}">{feature.types}')
        lines += map(_element, feature.registers)
        lines.append("</feature>")
    return "\n".join([*lines, "</target>", ""]).encode()


def _element(register: Register) -> str:
    group = f' group="{register.group}"' if register.group else ""
    return f'<reg name="{register.name}" bitsize="{register.bits}" type="{register.kind}"{group}/>'


def read_all(processor: Processor) -> bytes:
    """All registers, in the order of the description, each little-endian."""
    snapshot = Snapshot(processor)
    return b"".join(_packed(register, snapshot) for register in REGISTERS)


def read(processor: Processor, number: int) -> bytes:
    """One register; raises `IndexError`."""
    return _packed(REGISTERS[number], Snapshot(processor))


def _packed(register: Register, snapshot: Snapshot) -> bytes:
    return (register.read(snapshot) & (1 << register.bits) - 1).to_bytes(register.size, "little")


def write(processor: Processor, number: int, value: bytes) -> None:
    """Set one register; raises `IndexError`, `ValueError` for a wrong size, `ReadOnlyRegister`."""
    register = REGISTERS[number]
    if len(value) != register.size:
        raise ValueError(f"{register.name} has {register.size} bytes")
    register.write(processor, int.from_bytes(value, "little"))


def write_all(processor: Processor, values: bytes) -> None:
    """Set all registers that can be set and differ; raises `ValueError` for a wrong size."""
    if len(values) != sum(register.size for register in REGISTERS):
        raise ValueError("not the size of all registers")
    before = read_all(processor)
    position = 0
    for number, register in enumerate(REGISTERS):
        value = values[position : position + register.size]
        if value != before[position : position + register.size]:
            write(processor, number, value)
        position += register.size
