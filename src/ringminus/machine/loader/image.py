"""Recognising a kernel file: an ELF vmlinux, or a bzImage with one inside."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ringminus.errors import ConfigError, HostError
from ringminus.machine.loader import cache
from ringminus.machine.loader.compression import MAX_OUTPUT, decompress, detect
from ringminus.machine.loader.wire import (
    DEFAULT_SETUP_SECTORS,
    ELF_CLASS_64,
    ELF_LITTLE_ENDIAN,
    ELF_MACHINE_X86_64,
    ELF_MACHINES,
    ELF_MAGIC,
    ELF_TYPE_EXECUTABLE,
    KERNEL_VERSION_BASE,
    PROTOCOL_WITH_PAYLOAD,
    SECTOR,
    SEGMENT_EXECUTABLE,
    SEGMENT_LOAD,
    SETUP_HEADER_JUMP_OFFSET,
    SETUP_HEADER_MAGIC,
    SETUP_HEADER_OFFSET,
    ElfHeader,
    ProgramHeader,
    SetupHeader,
)
from ringminus.memory import MIB
from ringminus.wire import ShortBuffer

_ADDRESS_LIMIT = 1 << 52
_MIN_ADDRESS = 1 * MIB
_MAX_SEGMENTS = 64
_BANNER = re.compile(rb"Linux version ([!-~]{1,64})")
_OTHER_FILES = (
    (b"!<arch>\n", "a Debian package or archive"),
    (b"07070", "a cpio archive (an initrd?)"),
    (b"MZ", "a PE program"),
    (b"#!", "a script"),
    (b"QFI\xfb", "a QCOW2 disk"),
    (b"vhdxfile", "a VHDX disk"),
)


@dataclass(frozen=True, slots=True)
class KernelSegment:
    """Bytes for guest-physical `address`; memory from their end to `memory_size` must be zero."""

    address: int
    data: memoryview
    memory_size: int

    @property
    def end(self) -> int:
        return self.address + self.memory_size


@dataclass(frozen=True, slots=True)
class KernelImage:
    """A kernel ready to be placed: `entry` is its 64-bit entry's guest-physical address, `version` its
    release name or empty, `setup` its setup header (a default one for a bare vmlinux)."""

    name: str
    version: str
    entry: int
    segments: tuple[KernelSegment, ...]
    setup: SetupHeader

    @property
    def end(self) -> int:
        """First guest-physical address after the kernel, its bss and brk included."""
        return max(segment.end for segment in self.segments)


def _describe(data: memoryview) -> str:
    """What a file that is no kernel seems to be, to help the person who passed it."""
    head = bytes(data[:16])
    if head.startswith(ELF_MAGIC):
        return "an ELF file that is cut short"
    compression = detect(data)
    if compression is not None:
        return f"a {compression.name} file"
    return next((name for magic, name in _OTHER_FILES if head.startswith(magic)), "of an unknown kind")


def _check_elf_header(header: ElfHeader, size: int) -> None:
    if header.elf_class != ELF_CLASS_64 or header.data != ELF_LITTLE_ENDIAN:
        raise ConfigError("is not a 64-bit x86 kernel: its ELF header says 32-bit or big-endian")
    if header.machine != ELF_MACHINE_X86_64:
        machine = ELF_MACHINES.get(header.machine, f"machine {header.machine}")
        raise ConfigError(f"is for {machine}, and this is an x86-64 machine")
    if header.type != ELF_TYPE_EXECUTABLE:
        raise ConfigError("is an ELF file, but not an executable one such as a vmlinux")
    if (
        header.program_header_size != ProgramHeader.SIZE
        or not 0 < header.program_header_count <= _MAX_SEGMENTS
    ):
        raise ConfigError("is a damaged ELF file: its program headers make no sense")
    if header.program_header_offset > size:
        raise ConfigError("is an ELF file that is cut short")


def _segment(data: memoryview, header: ProgramHeader) -> KernelSegment:
    if header.offset + header.file_size > len(data):
        raise ConfigError("is cut short: a segment ends after the file")
    end = header.physical_address + header.memory_size
    if (
        header.file_size > header.memory_size
        or header.physical_address < _MIN_ADDRESS
        or end > _ADDRESS_LIMIT
    ):
        raise ConfigError(
            f"is not a Linux kernel: it wants {header.memory_size} bytes of memory at "
            f"{header.physical_address:#x}"
        )
    contents = data[header.offset : header.offset + header.file_size]
    return KernelSegment(header.physical_address, contents, header.memory_size)


def parse_elf(data: memoryview) -> tuple[int, tuple[KernelSegment, ...]]:
    """Entry and loadable segments of a vmlinux; raises `ConfigError` whose text follows the file's name."""
    segments, entry_found = [], False
    if data[: len(ELF_MAGIC)] != ELF_MAGIC:
        raise ConfigError("is not a Linux kernel: there is no vmlinux in it")
    try:
        header = ElfHeader.unpack(data)
        _check_elf_header(header, len(data))
        for index in range(header.program_header_count):
            program = ProgramHeader.unpack(data, header.program_header_offset + index * ProgramHeader.SIZE)
            if program.type != SEGMENT_LOAD or program.memory_size == 0:
                continue
            segment = _segment(data, program)
            segments.append(segment)
            inside = segment.address <= header.entry < segment.address + len(segment.data)
            entry_found |= inside and bool(program.flags & SEGMENT_EXECUTABLE)
    except ShortBuffer:
        raise ConfigError("is an ELF file that is cut short") from None
    if not entry_found:
        raise ConfigError(
            f"is not a Linux kernel: its entry {header.entry:#x} is in no physical code segment"
        )
    return header.entry, tuple(segments)


def _setup_header(data: memoryview) -> SetupHeader | None:
    """The setup header of a bzImage, fields that its protocol lacks being zero; None for other files."""
    if len(data) < SETUP_HEADER_OFFSET + SetupHeader.SIZE:
        return None
    end = KERNEL_VERSION_BASE + 2 + data[SETUP_HEADER_JUMP_OFFSET]
    known = bytes(data[SETUP_HEADER_OFFSET : min(end, SETUP_HEADER_OFFSET + SetupHeader.SIZE)])
    setup = SetupHeader.unpack(known.ljust(SetupHeader.SIZE, b"\0"))
    return setup if setup.header == SETUP_HEADER_MAGIC else None


def _protected_mode_offset(setup: SetupHeader) -> int:
    return ((setup.setup_sects or DEFAULT_SETUP_SECTORS) + 1) * SECTOR


def _version_of(data: memoryview, setup: SetupHeader) -> str:
    """The release name that a bzImage carries in its real-mode part."""
    start = KERNEL_VERSION_BASE + setup.kernel_version
    end = _protected_mode_offset(setup)
    if setup.kernel_version == 0 or start >= min(end, len(data)):
        return ""
    text = bytes(data[start : min(start + 256, end)]).split(b"\0")[0].split(b" ")[0]
    return text.decode("ascii", "replace") if text.isascii() else ""


def _payload(data: memoryview, setup: SetupHeader) -> memoryview:
    if setup.version < PROTOCOL_WITH_PAYLOAD:
        raise ConfigError("is a bzImage older than Linux 2.6.26: use a newer kernel")
    start = _protected_mode_offset(setup) + setup.payload_offset
    if setup.payload_length <= 4 or start + setup.payload_length > len(data):
        raise ConfigError("is a bzImage that is cut short: its payload ends after the file")
    return data[start : start + setup.payload_length]


def extract(payload: memoryview, limit: int = MAX_OUTPUT) -> bytearray:
    """The vmlinux in a bzImage's payload, whose last four bytes are the vmlinux's size."""
    size = int.from_bytes(payload[-4:], "little")
    if size > limit:
        raise ConfigError(f"is a damaged bzImage: it claims to unpack to {size // MIB} MiB")
    try:
        image = decompress(payload, limit)
    except ConfigError as error:
        raise ConfigError(f"is a bzImage that cannot be extracted: {error}") from None
    if len(image) != size:
        raise ConfigError(f"is a damaged bzImage: it unpacks to {len(image)} bytes, not {size}")
    return image


def extract_kernel(path: Path) -> bytearray:
    """The vmlinux inside a bzImage file, for other programs than ours; raises `ConfigError`."""
    data = memoryview(path.read_bytes())
    setup = _setup_header(data)
    if setup is None:
        raise ConfigError(f"{path} is not a bzImage")
    return extract(_payload(data, setup))


def parse_kernel(data: memoryview, name: str) -> KernelImage:
    """Recognise a kernel file's contents; raises `ConfigError` whose text follows the file's name."""
    if data[: len(ELF_MAGIC)] == ELF_MAGIC:
        entry, segments = parse_elf(data)
        banner = next((m for s in segments if (m := _BANNER.search(s.data))), None)
        return KernelImage(name, banner[1].decode() if banner else "", entry, segments, SetupHeader())
    setup = _setup_header(data)
    if setup is None:
        raise ConfigError(
            f"is not a Linux kernel: neither an ELF vmlinux nor a bzImage, but {_describe(data)}"
        )
    payload = _payload(data, setup)
    key = hashlib.sha256(data).hexdigest()
    image = cache.recall(key)
    if image is None:
        extracted = extract(payload)
        entry, segments = parse_elf(memoryview(extracted))
        cache.remember(key, extracted)
    else:
        entry, segments = parse_elf(image)
    return KernelImage(name, _version_of(data, setup), entry, segments, setup)


def load_kernel(path: Path) -> KernelImage:
    """Open a vmlinux or bzImage; an extracted one comes from the cache when it was seen before.

    Raises `ConfigError` when it is no kernel and `HostError` when it cannot be read.
    """
    try:
        if not path.is_file() and path.exists():
            kind = "a directory" if path.is_dir() else "not a regular file"
            raise ConfigError(f"kernel {path} is {kind}")
        if path.exists() and path.stat().st_size == 0:
            raise ConfigError(f"kernel {path} is empty")
        data = cache.map_file(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HostError(f"cannot read kernel {path}: {reason}") from None
    try:
        return parse_kernel(data, path.name)
    except ConfigError as error:
        raise ConfigError(f"kernel {path} {error}") from None
