"""What a kernel file and the Linux boot protocol look like in memory.

Sources: the ELF-64 object file format; Linux Documentation/arch/x86/boot.rst and zero-page.rst;
ACPI 6.5, chapter 15 (e820 types); AMD64 APM volume 2, chapter 5 (page tables).
"""

from __future__ import annotations

from typing import Annotated

from ringminus.wire import U8, U16, U32, U64, Array, Bytes, Struct

ELF_MAGIC = b"\x7fELF"
ELF_CLASS_64 = 2
ELF_LITTLE_ENDIAN = 1
ELF_TYPE_RELOCATABLE = 1
ELF_TYPE_EXECUTABLE = 2
ELF_MACHINE_X86_64 = 62
ELF_MACHINES = {3: "i386", 8: "MIPS", 21: "PowerPC", 22: "s390", 40: "ARM", 183: "AArch64", 243: "RISC-V"}
SEGMENT_LOAD = 1
SEGMENT_EXECUTABLE = 1


class ElfHeader(Struct):
    """Elf64_Ehdr."""

    magic: Annotated[bytes, Bytes(4)] = ELF_MAGIC
    elf_class: U8 = ELF_CLASS_64
    data: U8 = ELF_LITTLE_ENDIAN
    ident_version: U8 = 1
    padding: Annotated[bytes, Bytes(9)] = b""
    type: U16 = ELF_TYPE_EXECUTABLE
    machine: U16 = ELF_MACHINE_X86_64
    version: U32 = 1
    entry: U64 = 0
    program_header_offset: U64 = 0
    section_header_offset: U64 = 0
    flags: U32 = 0
    header_size: U16 = 64
    program_header_size: U16 = 56
    program_header_count: U16 = 0
    section_header_size: U16 = 64
    section_header_count: U16 = 0
    section_name_index: U16 = 0


class ProgramHeader(Struct):
    """Elf64_Phdr; sizes and offsets in bytes."""

    type: U32 = SEGMENT_LOAD
    flags: U32 = 0
    offset: U64 = 0
    virtual_address: U64 = 0
    physical_address: U64 = 0
    file_size: U64 = 0
    memory_size: U64 = 0
    alignment: U64 = 0


# The bzImage file: a boot sector, `setup_sects` sectors of real-mode code, then the protected-mode part.
SECTOR = 512
SETUP_HEADER_OFFSET = 0x1F1
SETUP_HEADER_JUMP_OFFSET = 0x201
SETUP_HEADER_MAGIC = 0x53726448  # "HdrS"
KERNEL_VERSION_BASE = 0x200
DEFAULT_SETUP_SECTORS = 4
PROTOCOL_WITH_PAYLOAD = 0x208
LOADER_UNDEFINED = 0xFF
DEFAULT_COMMAND_LINE_SIZE = 2047
DEFAULT_INITRD_ADDRESS_MAX = 0x7FFFFFFF


class SetupHeader(Struct):
    """struct setup_header, at 0x1F1 of a bzImage and of boot_params."""

    setup_sects: U8 = 0
    root_flags: U16 = 0
    syssize: U32 = 0
    ram_size: U16 = 0
    vid_mode: U16 = 0
    root_dev: U16 = 0
    boot_flag: U16 = 0xAA55
    jump: U16 = 0
    header: U32 = SETUP_HEADER_MAGIC
    version: U16 = 0x20F
    realmode_swtch: U32 = 0
    start_sys_seg: U16 = 0
    kernel_version: U16 = 0
    type_of_loader: U8 = LOADER_UNDEFINED
    loadflags: U8 = 1
    setup_move_size: U16 = 0
    code32_start: U32 = 0x100000
    ramdisk_image: U32 = 0
    ramdisk_size: U32 = 0
    bootsect_kludge: U32 = 0
    heap_end_ptr: U16 = 0
    ext_loader_ver: U8 = 0
    ext_loader_type: U8 = 0
    cmd_line_ptr: U32 = 0
    initrd_addr_max: U32 = DEFAULT_INITRD_ADDRESS_MAX
    kernel_alignment: U32 = 0
    relocatable_kernel: U8 = 0
    min_alignment: U8 = 0
    xloadflags: U16 = 0
    cmdline_size: U32 = DEFAULT_COMMAND_LINE_SIZE
    hardware_subarch: U32 = 0
    hardware_subarch_data: U64 = 0
    payload_offset: U32 = 0
    payload_length: U32 = 0
    setup_data: U64 = 0
    pref_address: U64 = 0
    init_size: U32 = 0
    handover_offset: U32 = 0
    kernel_info_offset: U32 = 0


E820_RAM = 1
E820_RESERVED = 2
E820_ACPI = 3
E820_NVS = 4
E820_MAX_ENTRIES = 128


class E820Entry(Struct):
    """struct boot_e820_entry: `size` bytes at `address`."""

    address: U64
    size: U64
    type: U32 = E820_RAM


class BootParams(Struct):
    """struct boot_params, the zero page; areas that no loader of ours fills are reserved."""

    reserved_screen_info: Annotated[bytes, Bytes(0x40)] = b""
    reserved_apm_and_ist: Annotated[bytes, Bytes(0x30)] = b""
    acpi_rsdp_addr: U64 = 0
    reserved_disks: Annotated[bytes, Bytes(0x48)] = b""
    ext_ramdisk_image: U32 = 0
    ext_ramdisk_size: U32 = 0
    ext_cmd_line_ptr: U32 = 0
    reserved_edid_and_efi: Annotated[bytes, Bytes(0x114)] = b""
    alt_mem_k: U32 = 0
    scratch: U32 = 0
    e820_entries: U8 = 0
    eddbuf_entries: U8 = 0
    edd_mbr_sig_buf_entries: U8 = 0
    kbd_status: U8 = 0
    secure_boot: U8 = 0
    reserved_5: U16 = 0
    sentinel: U8 = 0
    reserved_6: U8 = 0
    hdr: SetupHeader
    reserved_7: Annotated[bytes, Bytes(0x290 - SETUP_HEADER_OFFSET - SetupHeader.SIZE)] = b""
    reserved_edd_signatures: Annotated[bytes, Bytes(0x40)] = b""
    e820_table: Annotated[bytes, Bytes(E820_MAX_ENTRIES * E820Entry.SIZE)] = b""
    reserved_8: Annotated[bytes, Bytes(0x330)] = b""


SETUP_RNG_SEED = 9


class SetupData(Struct):
    """struct setup_data: head of a list's entry, before `length` bytes; `next` is an address, or 0."""

    next: U64 = 0
    type: U32
    length: U32


PAGE_PRESENT = 1 << 0
PAGE_WRITABLE = 1 << 1
PAGE_LARGE = 1 << 7


class PageTable(Struct):
    """One level of a 4-level page table."""

    entries: Annotated[tuple[int, ...], Array("Q", 512)]


class BootGdt(Struct):
    """The descriptors that the 64-bit boot protocol asks for: flat code at 0x10, flat data at 0x18."""

    null: U64 = 0
    unused: U64 = 0
    code: U64 = 0x00AF9B000000FFFF
    data: U64 = 0x00CF93000000FFFF


CACHE_MAGIC = b"RMvmlnx1"


class CacheHeader(Struct):
    """Head of a cached vmlinux; one page, so that the image after it stays page-aligned."""

    magic: Annotated[bytes, Bytes(8)] = CACHE_MAGIC
    size: U64
    checksum: U32
    reserved: Annotated[bytes, Bytes(4096 - 20)] = b""
