"""What the comparison calls different: a table in which everything is the same says something only then."""

from __future__ import annotations

from typing import Annotated

import pytest

from layout.comparison import Same, SameBits, SameNumbers, bit_differences, differences, number_differences
from ringminus.machine.acpi.wire import Fadt
from ringminus.wire import I32, U16, U32, U64, Array, Bytes, Struct
from support.kernel_types import KernelTypes


class Descriptor(Struct):
    type: U16
    offset8: U16
    len8: U16
    flags: U16
    trans_id: U64


class Swapped(Struct):
    type: U16
    len8: U16
    offset8: U16
    flags: U16
    trans_id: U64


class Halves(Struct):
    type: U16
    offset8: U16
    len8: U16
    flags: U16
    low: U32
    high: U32


class Whole(Struct):
    head: Annotated[bytes, Bytes(8)]
    trans_id: U64


class Lists(Struct):
    head: Annotated[tuple[int, ...], Array("I", 2)]
    trans_id: U64


class Short(Struct):
    type: U16
    offset8: U16
    len8: U16
    flags: U16


class Long(Struct):
    type: U16
    offset8: U16
    len8: U16
    flags: U16
    trans_id: U64
    extra: U32


class Signed(Struct):
    byte_count: I32
    byte_offset: U32


class PipeOffer(Struct):
    """With the other member of the kernel's union."""

    if_type: Annotated[bytes, Bytes(16)]
    if_instance: Annotated[bytes, Bytes(16)]
    reserved: Annotated[bytes, Bytes(16)]
    chn_flags: U16
    mmio_megabytes: U16
    pipe_mode: U32
    user_def: Annotated[bytes, Bytes(116)]
    sub_channel_index: U16
    reserved3: U16


PARTS = ("type", "offset8", "len8", "flags")
HALVES = {"low": "trans_id", "high": "trans_id"}


@pytest.mark.parametrize(
    "same",
    [
        Same(Descriptor, "vmpacket_descriptor"),
        Same(Whole, "vmpacket_descriptor", merged={"head": PARTS}),
        Same(Halves, "vmpacket_descriptor", split=HALVES),
        Same(Short, "vmpacket_descriptor", until="trans_id"),
        Same(Long, "vmpacket_descriptor", beyond={"extra": "made up"}),
        Same(PipeOffer, "vmbus_channel_offer", merged={"reserved": ("reserved1", "reserved2")}),
    ],
    ids=lambda same: same.wire.__name__,
)
def test_the_same_in_other_words(same: Same, kernel: KernelTypes) -> None:
    assert differences(same, kernel.types(same.module)) == []


@pytest.mark.parametrize(
    ("same", "reason"),
    [
        (Same(Swapped, "vmpacket_descriptor"), "its name is offset8"),
        (Same(Halves, "vmpacket_descriptor"), "low at 8, 4 bytes: there is trans_id at 8, 8 bytes"),
        (Same(Halves, "vmpacket_descriptor", split={**HALVES, "low": "flags"}), "not in flags"),
        (Same(Whole, "vmpacket_descriptor"), "there is type at 0, 2 bytes"),
        (Same(Whole, "vmpacket_descriptor", merged={"head": PARTS[:3]}), "head at 0, 8 bytes: not type"),
        (Same(Whole, "vmpacket_descriptor", merged={"head": (*PARTS[:2], "flags", "len8")}), "not type"),
        (Same(Short, "vmpacket_descriptor"), "8 bytes, vmpacket_descriptor has 16"),
        (Same(Long, "vmpacket_descriptor"), "20 bytes, vmpacket_descriptor has 16"),
        (Same(Long, "vmpacket_descriptor", until="flags"), "bytes, vmpacket_descriptor has 6"),
        (Same(Signed, "gpa_range"), "byte_count at 0, 4 bytes: it is unsigned"),
        (Same(Lists, "vmpacket_descriptor"), "head at 0, 8 bytes: there is type"),
        (Same(Fadt, "acpi_table_fadt", "vmlinux"), "x_gpe0_block at 220, 12 bytes: its name is xgpe0_block"),
        (Same(Descriptor, "vmpacket_descriptor", renamed={"kind": "type"}), "the table names kind"),
        (Same(Descriptor, "vmpacket_descriptor", renamed={"type": "kind"}), "its name is type"),
    ],
    ids=lambda value: value.wire.__name__ if isinstance(value, Same) else "",
)
def test_what_is_not_the_same_is_said(same: Same, reason: str, kernel: KernelTypes) -> None:
    assert any(reason in line for line in differences(same, kernel.types(same.module)))


def test_fields_beyond_the_end_are_excused_only_while_the_kernel_ends_there(kernel: KernelTypes) -> None:
    same = Same(Descriptor, "vmpacket_descriptor", beyond={"trans_id": "made up"}, renamed={"trans_id": "no"})
    assert differences(same, kernel.types(same.module)) == ["trans_id at 8, 8 bytes: its name is trans_id"]


def test_a_structure_that_the_kernel_lacks_is_an_error(kernel: KernelTypes) -> None:
    with pytest.raises(KeyError, match="no_such_structure"):
        differences(Same(Descriptor, "no_such_structure"), kernel.types("hv_vmbus"))


def test_numbers_differ_by_value_and_by_name(kernel: KernelTypes) -> None:
    numbers = {"DATA_INBAND": 7, "DATA_USING_XFER_PAGES": 7, "NEW": 99, "OLD": 98}
    same = SameNumbers("made up", numbers, "vmbus_packet_type", "VM_PKT_", beyond={"OLD": "made up"})
    assert number_differences(same, kernel.types(same.module)) == [
        "DATA_INBAND is 0x7, VM_PKT_DATA_INBAND is 0x6",
        "NEW: vmbus_packet_type has no VM_PKT_NEW",
    ]


def test_bits_differ_by_place_and_width(kernel: KernelTypes) -> None:
    same = SameBits("made up", {"vector": 0x7F, "masked": 1 << 17, "polling": 1 << 18}, "hv_synic_sint")
    assert bit_differences(same, kernel.types(same.module)) == [
        "vector is 0x7f, the kernel's 0xff",
        "masked is 0x20000, the kernel's 0x10000",
    ]
