"""Registers, leaves, hypercalls and messages are shown by name and by their bits."""

from __future__ import annotations

import pytest

import ringminus.hypervisor.protocol
import ringminus.vmbus.protocol  # noqa: F401
from ringminus.hypervisor.cpuid import SOFTWARE, leaves
from ringminus.hypervisor.msrs import MSRS
from ringminus.hypervisor.wire import FlushInputEx, GvaRange, TimerMessage, VpRegistersInput
from ringminus.lens.decode import Decoder
from ringminus.protocol import NAMES, REST, Layer
from ringminus.tap import CpuidRead, Event, Hypercall, MsrAccess, SynicMessage

NUMBERS = {msr.name: number for number, msr in MSRS.items()}


def carried(event: Event) -> Layer:
    layer = Decoder().carried(event)
    assert layer is not None and layer.missing == 0 and not any(one.name == REST for one in layer.values)
    return layer


def texts(layer: Layer) -> dict[str, str]:
    return {one.name: one.text for one in layer.values}


def register(name: str, value: int) -> dict[str, str]:
    name = name if name in NUMBERS else f"HV_X64_MSR_{name}"
    layer = carried(MsrAccess(0, 0, NUMBERS[name], name, True, value, False))
    assert layer.message == name
    return texts(layer)


@pytest.mark.parametrize(
    ("name", "value", "bits"),
    [
        (
            "GUEST_OS_ID",
            0x8100_0601_0200_0003,
            {"open_source": "1", "os_type": "1", "version": "0x6010200", "build": "3"},
        ),
        (
            "GUEST_OS_ID",
            0x0001_040A_0001_4F7C,
            {"open_source": "0", "vendor": "1", "os_id": "4", "major": "10"},
        ),
        ("HYPERCALL", 0x1234_5003, {"enable": "1", "locked": "1", "page": "0x12345"}),
        ("SIMP", 0x5001, {"enable": "1", "page": "0x5"}),
        ("SIEFP", 0x6000, {"enable": "0", "page": "0x6"}),
        ("SCONTROL", 1, {"enable": "1"}),
        ("SINT2", 0x2_00F3, {"vector": "0xf3", "masked": "0", "auto_eoi": "1", "polling": "0"}),
        ("STIMER0_CONFIG", 0x2_0003, {"enable": "1", "periodic": "1", "direct_mode": "0", "sint": "2"}),
        ("STIMER3_CONFIG", 0x1ED9, {"apic_vector": "0xed", "direct_mode": "1", "auto_enable": "1"}),
        ("REFERENCE_TSC", 0x7001, {"enable": "1", "page": "0x7"}),
        ("VP_ASSIST_PAGE", 0x8001, {"enable": "1", "page": "0x8"}),
        ("CRASH_CTL", 3 << 62, {"crash_notify": "1", "crash_message": "1", "no_crash_dump": "0"}),
        ("X2APIC_ICR", 0x3_000C_40FB, {"vector": "0xfb", "shorthand": "OTHERS", "destination": "0x3"}),
        ("APIC_BASE", 0xFEE0_0D00, {"bsp": "1", "x2apic": "1", "enable": "1", "page": "0xfee00"}),
    ],
)
def test_a_registers_value_has_its_bits(name: str, value: int, bits: dict[str, str]) -> None:
    found = {one.rpartition(".")[2]: text for one, text in register(name, value).items()}
    assert found.items() >= bits.items()


def test_flags_of_a_register_have_names() -> None:
    assert register("EFER", 0xD01)["efer"] == "SCE|LME|LMA|NXE"
    assert register("CRASH_CTL", 3 << 62)["crash_ctl"] == "MESSAGE|NOTIFY"


def test_a_register_without_bits_and_a_read_that_failed_are_numbers() -> None:
    assert Decoder().carried(MsrAccess(0, 0, 0x10, "TSC", False, 5, False)) is None
    failed = MsrAccess(0, 0, NUMBERS["HV_X64_MSR_SIMP"], "HV_X64_MSR_SIMP", False, 0, True)
    assert Decoder().carried(failed) is None


def test_every_leaf_of_a_profile_has_a_name_and_says_something() -> None:
    for (leaf, subleaf), values in leaves(SOFTWARE, 0, 2).items():
        layer = carried(CpuidRead(0, 0, leaf, subleaf, *values))
        assert layer.message == NAMES["cpuid.leaf"][leaf]
    features = texts(carried(CpuidRead(0, 0, 0x40000003, 0, *leaves(SOFTWARE, 0, 1)[0x40000003, 0])))
    assert "SYNIC|SYNTHETIC_TIMERS" in features["privileges"] and "CRASH_MSRS" in features["features"]
    vendor = texts(carried(CpuidRead(0, 0, 0x40000000, 0, *leaves(SOFTWARE, 0, 1)[0x40000000, 0])))
    assert vendor == {"highest_leaf": "0x40000006", "hypervisor": "Microsoft Hv"}


def test_an_unknown_leaf_has_its_registers() -> None:
    layer = carried(CpuidRead(0, 0, 0x40000100, 0, 1, 2, 3, 4))
    assert layer.message == "0x40000100"
    assert texts(layer) == {"eax": "0x1", "ebx": "0x2", "ecx": "0x3", "edx": "0x4"}


def hypercall(code: int, block: bytes) -> Layer:
    return carried(Hypercall(0, 0, code, "", code, 0, 0, 0, "SUCCESS", "", block))


def test_lists_of_a_hypercall_follow_its_banks() -> None:
    header = FlushInputEx(address_space=5, flags=1, set_format=0, valid_banks=0b101).pack()
    banks = (0xF0).to_bytes(8, "little") + (1).to_bytes(8, "little")
    pages = [GvaRange(value=0x1234_5003).pack(), GvaRange(value=0x8000).pack()]
    layer = hypercall(0x14, header + banks + b"".join(pages))
    assert texts(layer)["banks"] == "0xf0,0x1" and texts(layer)["flags"] == "ALL_PROCESSORS"
    assert [(one.get("value.page"), one.get("value.extra_pages")) for one in layer.inner] == [
        (0x12345, 3),
        (8, 0),
    ]


def test_registers_that_a_hypercall_asks_for_have_names() -> None:
    header = VpRegistersInput(partition_id=(1 << 64) - 1, vp_index=0, target_vtl=0, reserved=b"").pack()
    layer = hypercall(0x50, header + (0xA0002).to_bytes(4, "little") + (0x90002).to_bytes(4, "little"))
    assert [texts(one)["name"] for one in layer.inner] == ["SINT2", "GUEST_OS_ID"]


def test_a_timers_message_says_when_it_was_due() -> None:
    expired = TimerMessage(timer_index=1, expiration_time=100, delivery_time=107).pack()
    layer = carried(SynicMessage(0, 0, 3, 0x80000010, expired, True))
    assert (layer.message, layer.get("timer_index"), layer.get("delivery_time")) == ("TIMER_EXPIRED", 1, 107)
