"""The ACPI tables of a machine: checksums, links, what they say, and what ACPICA thinks of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ringminus.errors import ConfigError
from ringminus.machine.acpi import tables
from ringminus.machine.acpi.wire import Fadt, GenericAddress, Rsdp, TableHeader
from ringminus.machine.memory_map import MemoryMap
from ringminus.memory import GIB, HIGH_RAM_BASE, LOW_RAM_END, MIB, Region

IASL = shutil.which("iasl")
# Hyper-V's own id "VMBUS" is shorter than the specification wants
ERROR_HID_LENGTH = "6033"
SMALL = MemoryMap((Region(0, 512 * MIB, 0),))
LARGE = MemoryMap((Region(0, LOW_RAM_END, 0), Region(HIGH_RAM_BASE, 5 * GIB, LOW_RAM_END)))


class Firmware:
    """The tables as a guest finds them: from the root pointer on."""

    def __init__(self, built: tables.AcpiTables) -> None:
        self.built = built
        self.at = dict(built.tables)
        self.rsdp = Rsdp.unpack(self.at[built.rsdp])
        xsdt = self.at[self.rsdp.xsdt_address]
        pointers = range(TableHeader.SIZE, len(xsdt), 8)
        listed = [self.at[int.from_bytes(xsdt[i : i + 8], "little")] for i in pointers]
        self.by_signature = {table[:4]: table for table in listed}
        self.fadt = Fadt.unpack(self.by_signature[b"FACP"])
        self.madt = self.by_signature[b"APIC"]
        self.dsdt = self.at[self.fadt.x_dsdt]

    def madt_entries(self) -> list[bytes]:
        entries, offset = [], TableHeader.SIZE + 8
        while offset < len(self.madt):
            entries.append(self.madt[offset : offset + self.madt[offset + 1]])
            offset += self.madt[offset + 1]
        return entries


@pytest.fixture
def firmware() -> Firmware:
    return Firmware(tables.build_tables(SMALL, 1))


@pytest.mark.parametrize(("memory_map", "vps"), [(SMALL, 1), (LARGE, 64), (SMALL, 300)])
def test_all_tables_are_sound_and_within_their_area(memory_map: MemoryMap, vps: int) -> None:
    firmware = Firmware(tables.build_tables(memory_map, vps))
    area, end = memory_map.acpi_tables, 0
    for where, table in firmware.built.tables:
        assert max(area.gpa, end) <= where and where + len(table) <= area.end
        assert sum(table) & 0xFF == 0
        end = where + len(table)
        if where != firmware.built.rsdp:
            assert TableHeader.unpack(table).length == len(table)


def test_the_root_pointer_is_found_at_a_paragraph_of_the_bios_area(firmware: Firmware) -> None:
    assert firmware.built.rsdp % 16 == 0 and 0xE0000 <= firmware.built.rsdp < 0x100000
    raw = firmware.at[firmware.built.rsdp]
    assert raw[:8] == b"RSD PTR " and len(raw) == 36 and sum(raw[:20]) & 0xFF == 0
    assert (firmware.rsdp.revision, firmware.rsdp.length) == (2, 36)


def test_the_fadt_is_of_revision_6_and_hardware_reduced(firmware: Firmware) -> None:
    fadt = firmware.fadt
    assert Fadt.SIZE == fadt.header.length == 276 and fadt.header.revision == 6
    assert fadt.flags == 1 << 20 | 1 << 10 | 1 << 4 | 1 << 5
    assert fadt.boot_architecture == 1 << 2 | 1 << 3 | 1 << 5
    assert fadt.dsdt == fadt.x_dsdt
    ports = [
        (r.space, r.width, r.address) for r in (fadt.sleep_control, fadt.sleep_status, fadt.reset_register)
    ]
    assert ports == [(1, 8, 0x600), (1, 8, 0x601), (1, 8, 0x602)]
    assert (fadt.reset_value, fadt.century) == (1, 0x32)


@pytest.mark.parametrize(
    ("field", "offset"),
    [
        ("dsdt", 40),
        ("century", 108),
        ("boot_architecture", 109),
        ("flags", 112),
        ("reset_register", 116),
        ("reset_value", 128),
        ("minor_version", 131),
        ("x_dsdt", 140),
        ("x_pm1a_event_block", 148),
        ("sleep_control", 244),
        ("sleep_status", 256),
        ("hypervisor_vendor", 268),
    ],
)
def test_the_fadt_has_its_fields_where_the_specification_says(field: str, offset: int) -> None:
    assert Fadt.offset_of(field) == offset and GenericAddress.SIZE == 12


def test_the_madt_names_each_processor_and_the_io_apic() -> None:
    first, second, io_apic = Firmware(tables.build_tables(SMALL, 2)).madt_entries()
    assert first == bytes([0, 8, 0, 0, 1, 0, 0, 0])
    assert second == bytes([0, 8, 1, 1, 1, 0, 0, 0])
    assert io_apic == bytes.fromhex("010c0000 0000c0fe 00000000")


def test_processors_from_255_on_need_the_larger_entry() -> None:
    entries = Firmware(tables.build_tables(SMALL, 257)).madt_entries()
    assert [entry[0] for entry in entries] == [0] * 255 + [9] * 2 + [1]
    assert entries[256] == bytes.fromhex("09100000 00010000 01000000 00010000")


def test_more_processors_than_the_area_can_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="too many"):
        tables.build_tables(SMALL, 20_000)


@pytest.mark.skipif(IASL is None, reason="iasl (acpica-tools) is not installed")
class TestWithAcpica:
    """Disassembled, and compiled again without an error."""

    def disassemble(self, table: bytes, directory: Path) -> str:
        source = directory / "table.aml"
        source.write_bytes(table)
        self.iasl(directory, "-d", source.name)
        return (directory / "table.dsl").read_text()

    def iasl(self, directory: Path, *arguments: str) -> str:
        assert IASL is not None
        command = [IASL, "-f", *arguments]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def compile(self, directory: Path) -> tuple[set[str], bytes]:
        """The numbers of the errors, and the table compiled in spite of them."""
        told = self.iasl(directory, "-p", "again", "table.dsl")
        return set(re.findall(r"^Error +(\d+)", told, re.M)), (directory / "again.aml").read_bytes()

    @pytest.mark.parametrize("memory_map", [SMALL, LARGE], ids=["512MiB", "8GiB"])
    def test_the_dsdt(self, memory_map: MemoryMap, tmp_path: Path) -> None:
        dsdt = Firmware(tables.build_tables(memory_map, 1)).dsdt
        text = self.disassemble(dsdt, tmp_path)
        assert "Invalid" not in text and "Unknown" not in text
        for expected in ('EisaId ("PNP0501")', 'EisaId ("PNP0B00")', '"VMBUS"', '"ACPI0004"'):
            assert expected in text
        assert re.search(r"Name \(\\?_S5, Package \(0x04\)", text)
        numbers = {int(number, 16) for number in re.findall(r"0x([0-9A-F]{8,16})", text)}
        for window in (memory_map.low_mmio, memory_map.high_mmio):
            assert {window.gpa, window.end - 1, window.size} <= numbers
        errors, again = self.compile(tmp_path)
        assert errors == {ERROR_HID_LENGTH}
        assert len(again) == len(dsdt)
        # the compiler leaves a template's checksum at 0 and writes its own name into the header
        checksums = {i + 1 for i, byte in enumerate(dsdt) if byte == 0x79 and again[i + 1] == 0}
        different = {i for i in range(TableHeader.SIZE, len(dsdt)) if dsdt[i] != again[i]}
        assert different <= checksums

    @pytest.mark.parametrize("signature", [b"FACP", b"APIC"])
    def test_data_tables(self, signature: bytes, tmp_path: Path) -> None:
        firmware = Firmware(tables.build_tables(LARGE, 257))
        text = self.disassemble(firmware.by_signature[signature], tmp_path)
        assert "Invalid" not in text and "Unknown" not in text and "incorrect" not in text.lower()
        errors, again = self.compile(tmp_path)
        assert errors == set()
        assert again[TableHeader.SIZE :] == firmware.by_signature[signature][TableHeader.SIZE :]
