"""The AML builder against bytes that ACPICA's compiler gives for the source in the comments."""

from __future__ import annotations

import pytest

from ringminus.machine.acpi import aml


def crs(descriptor: bytes) -> bytes:
    """The descriptor out of a template that holds only it."""
    template = aml.resource_template(descriptor)
    assert template[:1] == b"\x11"
    return template[template.index(descriptor) : -2]


class TestNames:
    def test_segments_are_padded(self) -> None:
        # Name (QW, 0x1122334455667788)
        expected = "08 51575f5f 0e 8877665544332211"
        assert aml.name("QW", aml.integer(0x1122334455667788)) == bytes.fromhex(expected)

    @pytest.mark.parametrize(
        ("path", "encoded"),
        [
            ("_SB", b"_SB_"),
            ("\\", b"\\\0"),
            ("\\_SB_.COM1", b"\\\x2e_SB_COM1"),
            ("^TEST.QW", b"^\x2eTESTQW__"),
            ("\\_SB_.VMOD.VMBS", b"\\\x2f\x03_SB_VMODVMBS"),
            ("^^A", b"^^A___"),
        ],
    )
    def test_paths(self, path: str, encoded: bytes) -> None:
        assert aml.path(path) == encoded

    @pytest.mark.parametrize("bad", ["TOOLONG", "1ABC", "a", "A..B", "A B"])
    def test_what_is_no_name_is_refused(self, bad: str) -> None:
        with pytest.raises(ValueError, match="is not an ACPI name"):
            aml.path(bad)


class TestData:
    @pytest.mark.parametrize(
        ("value", "encoded"),
        [
            (0, "00"),
            (1, "01"),
            (2, "0a02"),
            (0xFF, "0aff"),
            (0x1234, "0b3412"),
            (0x12345678, "0c78563412"),
            (0x123456789, "0e8967452301000000"),
        ],
    )
    def test_integers_take_the_shortest_form(self, value: int, encoded: str) -> None:
        assert aml.integer(value) == bytes.fromhex(encoded)

    @pytest.mark.parametrize("value", [-1, 1 << 64])
    def test_integers_that_do_not_fit_are_refused(self, value: int) -> None:
        with pytest.raises(ValueError, match="unsigned 64-bit"):
            aml.integer(value)

    def test_strings(self) -> None:
        assert aml.string("ACPI0004") == b"\x0dACPI0004\0"
        with pytest.raises(ValueError, match="NUL"):
            aml.string("a\0b")

    @pytest.mark.parametrize(("text", "encoded"), [("PNP0501", "0c41d00501"), ("PNP0C02", "0c41d00c02")])
    def test_eisa_ids(self, text: str, encoded: str) -> None:
        assert aml.eisa_id(text) == bytes.fromhex(encoded)

    @pytest.mark.parametrize("bad", ["PNP05", "pnp0501", "PN10501", "PNP05GG"])
    def test_what_is_no_eisa_id_is_refused(self, bad: str) -> None:
        with pytest.raises(ValueError):
            aml.eisa_id(bad)

    def test_package(self) -> None:
        # Name (\_S5, Package (0x04) { 0x05, Zero, Zero, Zero })
        values = (aml.integer(v) for v in (5, 0, 0, 0))
        encoded = aml.name("_S5", aml.package(*values))
        assert encoded == bytes.fromhex("08 5f53355f 12 07 04 0a05 00 00 00")

    def test_buffer(self) -> None:
        # Buffer () { 1, 2, 3 }
        assert aml.buffer(b"\1\2\3") == bytes.fromhex("11 06 0a03 010203")


class TestBlocks:
    @pytest.mark.parametrize(
        ("size", "head"),
        [
            (0x3A, "3f"),
            (0x3B, "4104"),
            (0xFF9, "4fff"),
            (0xFFA, "810001"),
            (0xFFFF8, "8fffff"),
            (0xFFFF9, "c1000001"),
        ],
    )
    def test_package_lengths_of_every_size(self, size: int, head: str) -> None:
        """A scope whose body has `size` bytes after its name of four."""
        encoded = aml.scope("_SB_", bytes(size))
        assert encoded[1 : 1 + len(head) // 2].hex() == head
        assert len(encoded) == 1 + len(head) // 2 + 4 + size

    def test_method(self) -> None:
        # Method (_STA, 0) { Return (0x0F) }
        method = aml.method("_STA", 0, aml.returns(aml.integer(0x0F)))
        assert method == bytes.fromhex("14 09 5f535441 00 a4 0a0f")
        with pytest.raises(ValueError, match="7 arguments"):
            aml.method("FOO", 8)

    def test_device(self) -> None:
        # Device (VMBS) { Name (_HID, "VMBUS") Method (_STA, 0) { Return (0x0F) } }
        device = aml.device(
            "VMBS",
            aml.name("_HID", aml.string("VMBUS")),
            aml.method("_STA", 0, aml.returns(aml.integer(0x0F))),
        )
        expected = "5b82 1b 564d4253 08 5f484944 0d 564d42555300 14 09 5f535441 00 a4 0a0f"
        assert device == bytes.fromhex(expected)


class TestResources:
    def test_a_template_ends_with_a_tag_that_makes_its_sum_zero(self) -> None:
        template = aml.resource_template(aml.io(0x3F8, 8), aml.irq_no_flags(4))
        # ResourceTemplate () { IO (Decode16, 0x03F8, 0x03F8, 0x01, 0x08) IRQNoFlags () {4} }
        assert template[:-1] == bytes.fromhex("11 10 0a0d 4701f803f8030108 221000 79")
        assert sum(template[4:]) & 0xFF == 0

    def test_an_empty_template_is_valid(self) -> None:
        assert aml.resource_template() == bytes.fromhex("11 05 0a02 7987")

    def test_irq(self) -> None:
        # IRQ (Level, ActiveLow, Shared) {5, 9}
        encoded = aml.irq(5, 9, level=True, active_low=True, shared=True)
        assert crs(encoded) == bytes.fromhex("23200218")
        # IRQ (Edge, ActiveHigh, Exclusive) {4}
        assert crs(aml.irq(4)) == bytes.fromhex("23100001")
        with pytest.raises(ValueError, match="IRQ 16"):
            aml.irq(16)

    def test_extended_irq(self) -> None:
        # Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) {0x21}
        assert crs(aml.extended_irq(0x21)) == bytes.fromhex("890600 03 01 21000000")
        # Interrupt (ResourceConsumer, Level, ActiveLow, Shared) {0x21, 0x22}
        encoded = aml.extended_irq(0x21, 0x22, level=True, active_low=True, shared=True)
        assert crs(encoded) == bytes.fromhex("890a00 0d 02 21000000 22000000")

    def test_memory32_fixed(self) -> None:
        # Memory32Fixed (ReadWrite, 0xFED00000, 0x400)
        assert crs(aml.memory32_fixed(0xFED00000, 0x400)) == bytes.fromhex("860900 01 0000d0fe 00040000")

    def test_dword_memory(self) -> None:
        # DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
        #     0, 0xE0000000, 0xFEBFFFFF, 0, 0x1EC00000)
        expected = "871700 00 0c 01 00000000 000000e0 ffffbffe 00000000 0000c01e"
        assert crs(aml.dword_memory(0xE0000000, 0x1EC00000)) == bytes.fromhex(expected)

    def test_qword_memory(self) -> None:
        # QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
        #     0, 0x100000000, 0x1FFFFFFFF, 0, 0x100000000)
        expected = (
            "8a2b00 00 0c 01 0000000000000000 0000000001000000 ffffffff01000000"
            "0000000000000000 0000000001000000"
        )
        assert crs(aml.qword_memory(0x100000000, 0x100000000)) == bytes.fromhex(expected)
