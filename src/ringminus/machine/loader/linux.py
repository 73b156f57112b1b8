"""Linux's 64-bit boot protocol: everything in place, and the registers to begin with.

The vmlinux is entered directly, so the guest neither decompresses nor relocates itself.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ringminus.cpu.engine import GENERAL, Registers, Segment
from ringminus.errors import ConfigError, HostError
from ringminus.machine.loader.image import KernelImage
from ringminus.machine.loader.wire import (
    DEFAULT_COMMAND_LINE_SIZE,
    DEFAULT_INITRD_ADDRESS_MAX,
    E820_MAX_ENTRIES,
    E820_RAM,
    LOADER_UNDEFINED,
    PAGE_LARGE,
    PAGE_PRESENT,
    PAGE_WRITABLE,
    SETUP_RNG_SEED,
    BootGdt,
    BootParams,
    E820Entry,
    PageTable,
    SetupData,
    SetupHeader,
)
from ringminus.memory import HIGH_RAM_BASE, MIB, PAGE_MASK, PAGE_SIZE, GuestMemory

CODE_SELECTOR = 0x10
DATA_SELECTOR = 0x18
_FLAT = 0xFFFFFFFF
_CODE_FLAGS = 0xAF9B00
_DATA_FLAGS = 0xCF9300
_TASK_FLAGS = 0x8B00
_TASK_LIMIT = 0x67
_CR0 = 0x80050033  # PG, AM, WP, NE, ET, MP, PE
_CR4 = 0x620  # PAE, OSFXSR, OSXMMEXCPT
_EFER = 0xD01  # SCE, LME, LMA, NXE
_LARGE_PAGE = 2 * MIB
_IDENTITY_TABLES = 4  # page directories: 1 GiB each
SEED_SIZE = 32  # bytes: as much as Linux wants


@dataclass(frozen=True, slots=True)
class BootLayout:
    """Where the loader puts its own things in low memory (guest-physical).

    `page_tables` takes six pages; `command_line` may take `command_line_size` bytes.
    """

    gdt: int = 0x500
    boot_params: int = 0x7000
    stack_top: int = 0x8FF0
    page_tables: int = 0x9000
    random_seed: int = 0x10000
    command_line: int = 0x20000
    command_line_size: int = 0x10000


@dataclass(frozen=True, slots=True)
class BootState:
    """A loaded guest: `registers` of the first processor, and where things are (guest-physical)."""

    registers: Registers
    entry: int
    boot_params: int
    initrd: int
    initrd_size: int


def _mib(size: int) -> int:
    return -(-size // MIB)


def _place_kernel(memory: GuestMemory, image: KernelImage, e820: Sequence[E820Entry]) -> None:
    """Copy the segments; fresh RAM is zero, so the bss needs nothing."""
    ram = [entry for entry in e820 if entry.type == E820_RAM]
    for segment in image.segments:
        fits = any(e.address <= segment.address and segment.end <= e.address + e.size for e in ram)
        if not fits or not memory.is_ram(segment.address, segment.memory_size):
            raise ConfigError(
                f"kernel {image.name} needs memory up to {_mib(image.end)} MiB and the machine has "
                f"{memory.size // MIB} MiB: give it more memory"
            )
    for segment in image.segments:
        memory.write(segment.address, segment.data)


def _free_ranges(image: KernelImage, e820: Sequence[E820Entry]) -> list[tuple[int, int]]:
    """RAM from 1 MiB to 4 GiB without the kernel, as (start, end), highest first."""
    limit = min((image.setup.initrd_addr_max or DEFAULT_INITRD_ADDRESS_MAX) + 1, HIGH_RAM_BASE)
    free = []
    for entry in e820:
        start, end = max(entry.address, MIB), min(entry.address + entry.size, limit)
        if entry.type != E820_RAM or start >= end:
            continue
        for segment in sorted(image.segments, key=lambda s: s.address):
            if segment.address < end and segment.end > start:
                free.append((start, segment.address))
                start = segment.end
        free.append((start, end))
    return sorted(free, reverse=True)


def _initrd_address(
    memory: GuestMemory, image: KernelImage, size: int, path: Path, e820: Sequence[E820Entry]
) -> int:
    """The highest page-aligned place that Linux accepts and that keeps clear of the kernel.

    The kernel's segments count, not its init_size: that includes room to decompress, which it does not do.
    """
    room = 0
    for start, end in _free_ranges(image, e820):
        start, end = (start + PAGE_MASK) & ~PAGE_MASK, end & ~PAGE_MASK
        address = (end - size) & ~PAGE_MASK
        if address >= start and memory.is_ram(address, size):
            return address
        room = max(room, end - start)
    raise ConfigError(
        f"initrd {path} is too large for memory: it needs {_mib(size)} MiB, and {room // MIB} MiB of "
        f"{memory.size // MIB} MiB are free beside the kernel: give the machine at least "
        f"{_mib(memory.size + size - room)} MiB or use a smaller initrd"
    )


def _read_into(descriptor: int, target: memoryview) -> int:
    done = 0
    while done < len(target):
        count = os.readv(descriptor, [target[done:]])
        if count == 0:
            break
        done += count
    return done


def _place_initrd(
    memory: GuestMemory, image: KernelImage, path: Path, e820: Sequence[E820Entry]
) -> tuple[int, int]:
    """Read the file straight into guest memory; gives its address and size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise HostError(f"cannot read initrd {path}: {getattr(error, 'strerror', error)}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ConfigError(f"initrd {path} is {kind}")
        if status.st_size == 0:
            raise ConfigError(f"initrd {path} is empty")
        address = _initrd_address(memory, image, status.st_size, path, e820)
        done = _read_into(descriptor, memory.view(address, status.st_size))
    except OSError as error:
        raise HostError(f"cannot read initrd {path}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    memory.written(address, status.st_size)
    if done != status.st_size:
        raise HostError(f"cannot read initrd {path}: it became shorter while it was read")
    return address, status.st_size


def _place_command_line(
    memory: GuestMemory, image: KernelImage, command_line: str, layout: BootLayout
) -> None:
    encoded = command_line.encode("utf-8", "surrogateescape")
    accepted = image.setup.cmdline_size or DEFAULT_COMMAND_LINE_SIZE
    limit = min(accepted, layout.command_line_size - 1)
    if len(encoded) > limit:
        raise ConfigError(
            f"the kernel command line has {len(encoded)} bytes and this kernel takes {limit}: shorten it"
        )
    if b"\0" in encoded:
        raise ConfigError("the kernel command line has a NUL character in it: leave it out")
    memory.write(layout.command_line, encoded + b"\0")


def _place_boot_params(
    memory: GuestMemory,
    image: KernelImage,
    e820: Sequence[E820Entry],
    rsdp: int,
    initrd: tuple[int, int],
    layout: BootLayout,
) -> None:
    if len(e820) > E820_MAX_ENTRIES:
        raise ConfigError(f"the memory map has {len(e820)} entries and Linux takes {E820_MAX_ENTRIES}")
    setup = SetupHeader.unpack(image.setup.pack())
    setup.type_of_loader = LOADER_UNDEFINED
    setup.cmd_line_ptr = layout.command_line
    setup.ramdisk_image, setup.ramdisk_size = initrd
    setup.setup_data = layout.random_seed
    params = BootParams(
        acpi_rsdp_addr=rsdp,
        hdr=setup,
        e820_entries=len(e820),
        e820_table=b"".join(entry.pack() for entry in e820),
    )
    memory.write(layout.boot_params, params.pack())


def _place_random_seed(memory: GuestMemory, layout: BootLayout) -> None:
    """Randomness from the host, as Hyper-V gives it. A guest has too little of its own: without this its
    generator is not ready for minutes, and programs wait for it. Kernels before 6.0 ignore it."""
    head = SetupData(type=SETUP_RNG_SEED, length=SEED_SIZE)
    memory.write(layout.random_seed, head.pack() + secrets.token_bytes(SEED_SIZE))


def _place_page_tables(memory: GuestMemory, base: int) -> None:
    """Map the first 4 GiB to itself with 2 MiB pages: one level-4 table, one level-3, four level-2."""
    flags = PAGE_PRESENT | PAGE_WRITABLE

    def table(entries: list[int]) -> bytes:
        return PageTable(entries=tuple(entries + [0] * (512 - len(entries)))).pack()

    pointers, directories = base + PAGE_SIZE, base + 2 * PAGE_SIZE
    memory.write(base, table([pointers | flags]))
    memory.write(pointers, table([(directories + i * PAGE_SIZE) | flags for i in range(_IDENTITY_TABLES)]))
    for index in range(_IDENTITY_TABLES):
        first = index * 512
        pages = [((first + i) * _LARGE_PAGE) | flags | PAGE_LARGE for i in range(512)]
        memory.write(directories + index * PAGE_SIZE, table(pages))


def _boot_registers(entry: int, layout: BootLayout) -> Registers:
    """The state that the 64-bit boot protocol asks for at the entry."""

    def data() -> Segment:
        return Segment(DATA_SELECTOR, 0, _FLAT, _DATA_FLAGS)

    registers = Registers(
        rip=entry,
        es=data(),
        cs=Segment(CODE_SELECTOR, 0, _FLAT, _CODE_FLAGS),
        ss=data(),
        ds=data(),
        fs=data(),
        gs=data(),
        tr=Segment(limit=_TASK_LIMIT, flags=_TASK_FLAGS),
        gdtr=Segment(base=layout.gdt, limit=BootGdt.SIZE - 1),
        cr0=_CR0,
        cr3=layout.page_tables,
        cr4=_CR4,
        efer=_EFER,
    )
    registers.general[GENERAL.index("rsi")] = layout.boot_params
    registers.general[GENERAL.index("rsp")] = layout.stack_top
    return registers


def load_linux(
    memory: GuestMemory,
    image: KernelImage,
    initrd: Path | None,
    command_line: str,
    e820: Sequence[E820Entry],
    rsdp: int,
    layout: BootLayout | None = None,
) -> BootState:
    """Put a kernel, its initrd and its parameters into fresh memory.

    `rsdp` is the guest-physical address of the ACPI root pointer (0: none). Raises `ConfigError` when
    something does not fit and `HostError` when the initrd cannot be read.
    """
    layout = layout or BootLayout()
    _place_kernel(memory, image, e820)
    _place_command_line(memory, image, command_line, layout)
    where = _place_initrd(memory, image, initrd, e820) if initrd is not None else (0, 0)
    _place_random_seed(memory, layout)
    _place_boot_params(memory, image, e820, rsdp, where, layout)
    _place_page_tables(memory, layout.page_tables)
    memory.write(layout.gdt, BootGdt().pack())
    return BootState(_boot_registers(image.entry, layout), image.entry, layout.boot_params, *where)
