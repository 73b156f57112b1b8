"""What a kernel finds in memory when it boots, and the files that it is loaded from."""

from __future__ import annotations

from types import ModuleType

from layout.comparison import Same, SameBits, SameNumbers
from ringminus.guest import wire as module_file
from ringminus.machine.acpi import wire as acpi
from ringminus.machine.loader import wire as loader
from ringminus.wire import Struct

_KERNEL = "vmlinux"
_IDENT = ("magic", "elf_class", "data", "ident_version", "padding")

BOOT = (
    Same(
        loader.ElfHeader,
        "elf64_hdr",
        _KERNEL,
        split=dict.fromkeys(_IDENT, "e_ident"),
        renamed={
            "type": "e_type",
            "machine": "e_machine",
            "version": "e_version",
            "entry": "e_entry",
            "program_header_offset": "e_phoff",
            "section_header_offset": "e_shoff",
            "flags": "e_flags",
            "header_size": "e_ehsize",
            "program_header_size": "e_phentsize",
            "program_header_count": "e_phnum",
            "section_header_size": "e_shentsize",
            "section_header_count": "e_shnum",
            "section_name_index": "e_shstrndx",
        },
    ),
    Same(
        loader.ProgramHeader,
        "elf64_phdr",
        _KERNEL,
        renamed={
            "type": "p_type",
            "flags": "p_flags",
            "offset": "p_offset",
            "virtual_address": "p_vaddr",
            "physical_address": "p_paddr",
            "file_size": "p_filesz",
            "memory_size": "p_memsz",
            "alignment": "p_align",
        },
    ),
    Same(
        module_file.SectionHeader,
        "elf64_shdr",
        _KERNEL,
        renamed={
            "name": "sh_name",
            "type": "sh_type",
            "flags": "sh_flags",
            "address": "sh_addr",
            "offset": "sh_offset",
            "size": "sh_size",
            "link": "sh_link",
            "info": "sh_info",
            "alignment": "sh_addralign",
            "entry_size": "sh_entsize",
        },
    ),
    Same(loader.SetupHeader, "setup_header", _KERNEL),
    Same(loader.SetupData, "setup_data", _KERNEL, renamed={"length": "len"}),
    Same(loader.E820Entry, "boot_e820_entry", _KERNEL, renamed={"address": "addr"}),
    Same(
        loader.BootParams,
        "boot_params",
        _KERNEL,
        renamed={"reserved_edd_signatures": "edd_mbr_sig_buffer"},
        merged={
            "reserved_screen_info": ("screen_info",),
            "reserved_apm_and_ist": ("apm_bios_info", "_pad2", "tboot_addr", "ist_info"),
            "reserved_disks": ("_pad3", "hd0_info", "hd1_info", "sys_desc_table", "olpc_ofw_header"),
            "reserved_edid_and_efi": ("_pad4", "cc_blob_address", "edid_info", "efi_info"),
            "reserved_8": ("_pad8", "eddbuf", "_pad9"),
        },
    ),
)

_HEADER = {"creator_id": "asl_compiler_id", "creator_revision": "asl_compiler_revision"}
_ADDRESS = {"space": "space_id", "width": "bit_width", "offset": "bit_offset", "access_size": "access_width"}

TABLES = (
    Same(acpi.TableHeader, "acpi_table_header", _KERNEL, renamed=_HEADER),
    Same(
        acpi.Rsdp,
        "acpi_table_rsdp",
        _KERNEL,
        renamed={"rsdt_address": "rsdt_physical_address", "xsdt_address": "xsdt_physical_address"},
    ),
    Same(acpi.GenericAddress, "acpi_generic_address", _KERNEL, renamed=_ADDRESS),
    Same(
        acpi.Fadt,
        "acpi_table_fadt",
        _KERNEL,
        renamed={
            **_HEADER,
            **_ADDRESS,
            "firmware_control": "facs",
            "reserved_interrupt_model": "model",
            "s4bios_request": "s4_bios_request",
            "gpe0_length": "gpe0_block_length",
            "gpe1_length": "gpe1_block_length",
            "cstate_control": "cst_control",
            "boot_architecture": "boot_flags",
            "arm_boot_architecture": "arm_boot_flags",
            "minor_version": "minor_revision",
            "x_firmware_control": "Xfacs",
            "x_dsdt": "Xdsdt",
            "x_pm1a_event_block": "xpm1a_event_block",
            "x_pm1b_event_block": "xpm1b_event_block",
            "x_pm1a_control_block": "xpm1a_control_block",
            "x_pm1b_control_block": "xpm1b_control_block",
            "x_pm2_control_block": "xpm2_control_block",
            "x_pm_timer_block": "xpm_timer_block",
            "x_gpe0_block": "xgpe0_block",
            "x_gpe1_block": "xgpe1_block",
            "hypervisor_vendor": "hypervisor_id",
        },
    ),
    Same(acpi.MadtHead, "acpi_table_madt", _KERNEL, renamed={**_HEADER, "local_apic_address": "address"}),
    Same(
        acpi.MadtLocalApic,
        "acpi_madt_local_apic",
        _KERNEL,
        renamed={"processor_uid": "processor_id", "apic_id": "id", "flags": "lapic_flags"},
    ),
    Same(acpi.MadtIoApic, "acpi_madt_io_apic", _KERNEL, renamed={"first_interrupt": "global_irq_base"}),
    Same(
        acpi.MadtLocalX2Apic,
        "acpi_madt_local_x2apic",
        _KERNEL,
        renamed={"apic_id": "local_apic_id", "flags": "lapic_flags", "processor_uid": "uid"},
    ),
)

_HEAD = {"tag": "descriptor_type", "length": "resource_length", "type_flags": "specific_flags"}
_WIDE = {
    **{f"head.{ours}": theirs for ours, theirs in _HEAD.items()},
    "translation": "translation_offset",
    "length": "address_length",
}

RESOURCES = (
    Same(
        acpi.IoDescriptor,
        "aml_resource_io",
        _KERNEL,
        renamed={"tag": "descriptor_type", "decode": "flags", "length": "address_length"},
    ),
    Same(
        acpi.IrqDescriptor,
        "aml_resource_irq",
        _KERNEL,
        renamed={"tag": "descriptor_type", "mask": "irq_mask"},
        until="flags",
    ),
    Same(
        acpi.IrqFlagsDescriptor,
        "aml_resource_irq",
        _KERNEL,
        renamed={"tag": "descriptor_type", "mask": "irq_mask"},
    ),
    Same(
        acpi.Memory32FixedDescriptor,
        "aml_resource_fixed_memory32",
        _KERNEL,
        renamed={
            "tag": "descriptor_type",
            "descriptor_length": "resource_length",
            "writable": "flags",
            "base": "address",
            "length": "address_length",
        },
    ),
    Same(
        acpi.ExtendedIrqDescriptor,
        "aml_resource_extended_irq",
        _KERNEL,
        renamed={"tag": "descriptor_type", "length": "resource_length", "count": "interrupt_count"},
        until="interrupts",
    ),
    Same(acpi.AddressSpaceHead, "aml_resource_address", _KERNEL, renamed=_HEAD),
    Same(acpi.DWordAddress, "aml_resource_address32", _KERNEL, renamed=_WIDE),
    Same(acpi.QWordAddress, "aml_resource_address64", _KERNEL, renamed=_WIDE),
)

SAME = BOOT + TABLES + RESOURCES

NUMBERS = (
    SameNumbers(
        "MadtType",
        acpi.MadtType.__members__,
        "acpi_madt_type",
        "ACPI_MADT_TYPE_",
        _KERNEL,
    ),
)

BITS: tuple[SameBits, ...] = ()

NOT_IN_LINUX: dict[type[Struct] | ModuleType, str] = {
    acpi.XsdtEntry: "Linux reads it as a number",
    loader.PageTable: "an array of numbers, as the processor defines it",
    loader.BootGdt: "the loader's own, of descriptors as the processor defines them",
    loader.CacheHeader: "the loader's own file",
}
