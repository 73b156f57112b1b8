"""Hypercalls, registers and messages, declared for who shows them: from the tables that they are answered by.

Leaves of CPUID are in `cpuid_protocol`. Bits of registers as in the TLFS, whose names they have.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, IntFlag

from ringminus.hypervisor import cpuid_protocol as cpuid_protocol
from ringminus.hypervisor.apic_registers import DeliveryMode, Register, Shorthand
from ringminus.hypervisor.calls import CALLS, Call
from ringminus.hypervisor.msrs import MSRS
from ringminus.hypervisor.registers import INFORMATION_LEAVES, REGISTER_MSRS
from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.wire import (
    SINTS,
    SYNTHETIC_TIMERS,
    Crash,
    Flush,
    MessageType,
    TimerMessage,
    VpSetFormat,
)
from ringminus.protocol import NAMES, Bits, Form, Ones, Part, Protocol, Show, declare, word
from ringminus.wire import Int, Struct

POST_MESSAGE = 0x5C
U64 = Int("Q")

# ---------------------------------------------------------------- hypercalls

_LEAF_NAMES = {number: f"CPUID_{leaf:08X}" for number, leaf in INFORMATION_LEAVES.items()}
_MSR_NAMES = {number: MSRS[msr].name.removeprefix("HV_X64_MSR_") for number, msr in REGISTER_MSRS.items()}
RegisterNames = IntEnum(  # type: ignore[misc]
    "RegisterNames", {name: number for number, name in (_LEAF_NAMES | _MSR_NAMES).items()}
)


def _element(name: str, title: str, structure: type[Struct]) -> Protocol:
    page = (Bits("extra_pages", 0, 12), Bits("page", 12, 52, show=Show.HEX))
    return declare(
        Protocol(
            name,
            title,
            structure,
            "",
            {0: Form("ELEMENT")},
            {"name": RegisterNames},
            words={"value": page},
            shows=dict.fromkeys(("value", "low", "high"), Show.HEX),
        )
    )


_ELEMENTS = {
    call.element: _element(name, title, call.element)
    for code, name, title in (
        (0x0003, "gva_range", "Range of guest-virtual pages"),
        (0x0050, "register_name", "Name of a register"),
        (0x0051, "register_association", "Register and its value"),
    )
    for call in (CALLS[code],)
    if call.element is not None
}


def _parts(call: Call) -> Iterator[Part]:
    if call.variable:
        yield Part("banks", U64, count=Ones("valid_banks"))
    if call.element is not None:
        yield Part("elements", _ELEMENTS[call.element].name)


def _form(call: Call) -> Form:
    if call.code == POST_MESSAGE:
        inside = {"payload": "vmbus"}
        return Form(call.name, call.header, inner=inside, lengths={"payload": "payload_size"})
    return Form(call.name, call.header, parts=tuple(_parts(call)))


HYPERCALL = declare(
    Protocol(
        "hypercall_input",
        "Hypercall input",
        None,
        "code",
        {code: _form(call) for code, call in CALLS.items()},
        {"message_type": MessageType, "flags": Flush, "set_format": VpSetFormat},
        shows=dict.fromkeys(
            (
                *("address_space", "processor_mask", "valid_banks", "banks"),
                *("connection_id", "vector", "partition_id"),
            ),
            Show.HEX,
        ),
    )
)

# ---------------------------------------------------------------- registers

_ENABLE = Bits("enable", 0)
_PAGE = Bits("page", 12, 52, show=Show.HEX)
_OPEN_SOURCE_ID = (
    Bits("open_source", 63),
    Bits("os_type", 56, 7),
    Bits("os_id", 48, 8),
    Bits("version", 16, 32, show=Show.HEX),
    Bits("build", 0, 16),
)
_VENDOR_ID = (
    Bits("open_source", 63),
    Bits("vendor", 48, 15),
    Bits("os_id", 40, 8),
    Bits("major", 32, 8),
    Bits("minor", 24, 8),
    Bits("service_version", 16, 8),
    Bits("build", 0, 16),
)


class Efer(IntFlag):
    """Bits of EFER (AMD64 Architecture Programmer's Manual, volume 2)."""

    SCE = 1 << 0
    LME = 1 << 8
    LMA = 1 << 10
    NXE = 1 << 11
    SVME = 1 << 12


_WORDS: dict[str, tuple[Bits, ...]] = {
    "hypercall": (_ENABLE, Bits("locked", 1), _PAGE),
    "reference_tsc": (_ENABLE, _PAGE),
    "vp_assist_page": (_ENABLE, _PAGE),
    "scontrol": (_ENABLE,),
    "siefp": (_ENABLE, _PAGE),
    "simp": (_ENABLE, _PAGE),
    "sint": (
        Bits("vector", 0, 8, show=Show.HEX),
        Bits("masked", 16),
        Bits("auto_eoi", 17),
        Bits("polling", 18),
    ),
    "stimer_config": (
        _ENABLE,
        Bits("periodic", 1),
        Bits("lazy", 2),
        Bits("auto_enable", 3),
        Bits("apic_vector", 4, 8, show=Show.HEX),
        Bits("direct_mode", 12),
        Bits("sint", 16, 4),
    ),
    "icr": (
        Bits("vector", 0, 8, show=Show.HEX),
        Bits("delivery_mode", 8, 3, DeliveryMode),
        Bits("logical", 11),
        Bits("assert", 14),
        Bits("level", 15),
        Bits("shorthand", 18, 2, Shorthand),
        Bits("destination", 32, 32, show=Show.HEX),
    ),
    "lvt": (
        Bits("vector", 0, 8, show=Show.HEX),
        Bits("delivery_mode", 8, 3, DeliveryMode),
        Bits("masked", 16),
        Bits("timer_mode", 17, 2),
    ),
    "apic_base": (Bits("bsp", 8), Bits("x2apic", 10), Bits("enable", 11), _PAGE),
    "tsc_invariant_control": (_ENABLE,),
    "reset": (Bits("reset", 0),),
    "crash_ctl": (
        Bits("pre_os_id", 58, 3),
        Bits("no_crash_dump", 61),
        Bits("crash_message", 62),
        Bits("crash_notify", 63),
    ),
}
_SAME = {
    **{f"HV_X64_MSR_SINT{index}": "sint" for index in range(SINTS)},
    **{f"HV_X64_MSR_STIMER{index}_CONFIG": "stimer_config" for index in range(SYNTHETIC_TIMERS)},
    **{f"HV_X64_MSR_STIMER{index}_COUNT": "stimer_count" for index in range(SYNTHETIC_TIMERS)},
    f"X2APIC_{Register.ICR.name}": "icr",
    **{f"X2APIC_{one.name}": "lvt" for one in Register if one.name.startswith("LVT_")},
}
"""What the values of registers of which there are several, or with other names, are called."""
_PLAIN = ("vp_index", "time_ref_count", "tsc_frequency", "apic_frequency", "vp_runtime", "sversion")
_CRASH_PARAMETERS = tuple(f"crash_p{index}" for index in range(5))


def _value_name(msr: str) -> str:
    return _SAME.get(msr) or msr.removeprefix("HV_X64_MSR_").lower()


def _register_forms() -> Iterator[tuple[int, Form | tuple[Form, ...]]]:
    shown = {*_WORDS, *_PLAIN, *_CRASH_PARAMETERS, "stimer_count", "efer", "guest_os_id"}
    for number, msr in MSRS.items():
        name = _value_name(msr.name)
        if name not in shown:
            continue
        structure = word(name, U64)
        if name == "guest_os_id":
            opened = {"guest_os_id.open_source": 1}
            yield (
                number,
                (
                    Form(msr.name, structure, when=opened, words={name: _OPEN_SOURCE_ID}),
                    Form(msr.name, structure, words={name: _VENDOR_ID}),
                ),
            )
        else:
            yield number, Form(msr.name, structure)


MSR_VALUE = declare(
    Protocol(
        "msr_value",
        "Value of a register",
        None,
        "msr",
        dict(_register_forms()),
        {"efer": Efer, "crash_ctl": Crash},
        words=_WORDS,
        shows=dict.fromkeys(("guest_os_id", "efer", *_WORDS, *_CRASH_PARAMETERS), Show.HEX),
    )
)

# ---------------------------------------------------------------- messages, and names of events' own values

SYNIC_MESSAGE = declare(
    Protocol(
        "synic_message",
        "Message of the hypervisor",
        None,
        "message_type",
        {MessageType.TIMER_EXPIRED: Form("TIMER_EXPIRED", TimerMessage)},
        {"message_type": MessageType},
    )
)

NAMES["hypercall.code"] = {code: call.name for code, call in CALLS.items()}
NAMES["hypercall.result"] = {one.value: one.name for one in HvStatus}
NAMES["msr.msr"] = {number: msr.name for number, msr in MSRS.items()}
NAMES["message.message_type"] = {one.value: one.name for one in MessageType}
