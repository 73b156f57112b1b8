"""The private layout of the one libunicorn that we know: version 2.1.4, the x86-64 Linux wheel.

`layout.h` says the same to the C code; `check` compares the two and then looks for markers in a live
engine, so that another build is refused at start instead of corrupting a guest.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from ringminus.cpu.software import _native
from ringminus.errors import HostError

VERSION = "2.1.4"

LAYOUT = {
    "UC_CPU": 0x1B8,
    "UC_STOP_REQUEST": 0x56D,
    "UC_NO_EXIT_REQUEST": 0x7F2,
    "CPU_NEXT_CFLAGS": 0x18,
    "CPU_INTERRUPT_REQUEST": 0x1C,
    "CPU_SINGLESTEP": 0x20,
    "CPU_TRACE": 0x8188,
    "CPU_EXCEPTION_INDEX": 0x81A0,
    "CPU_CLASS": 0x81B0,
    "CPU_KICK": 0x8A42,
    "CPU_ENV": 0x8A50,
    "CLASS_TLB_FILL": 0x48,
    "ENV_EFER": 0x250,
    "ENV_MXCSR": 0x330,
    "ENV_XMM": 0x338,
    "ENV_STAR": 0x12D8,
    "ENV_LSTAR": 0x12E8,
    "ENV_CSTAR": 0x12F0,
    "ENV_FMASK": 0x12F8,
    "ENV_ERROR_CODE": 0x1508,
    "ENV_EXCEPTION_IS_INT": 0x150C,
    "ENV_OLD_EXCEPTION": 0x1578,
    "ENV_TSC_OFFSET": 0x1588,
    "ENV_STATE_SIZE": 0x15C0,
    "XMM_STRIDE": 0x40,
    "ENV_CR": 0x1A8,
    "ENV_SEGMENTS": 0xB8,
    "SEGMENT_SIZE": 24,
    "TB_CFLAGS": 0x18,
    "TB_TRACE": 0x1C,
    "TB_PAGES": 0x48,
    "TCG_CPU_ENV": 0x98F0,
    "TCG_OP_SET_LABEL": 1,
    "TCG_OP_LD_I32": 13,
}

SSE_KINDS = ("ss", "sd", "ps", "pd")

# The functions of libunicorn that our C code calls, in the order of its struct Library.
FUNCTIONS = (
    "uc_emu_start",
    "uc_emu_stop",
    "x86_cpu_do_interrupt_x86_64",
    "do_interrupt_x86_hardirq_x86_64",
    "helper_read_eflags_x86_64",
    "cpu_get_tsc_x86_64",
    "cpu_loop_exit_x86_64",
    "cpu_loop_exit_noexc_x86_64",
    "raise_exception_ra_x86_64",
    "raise_exception_err_ra_x86_64",
    "cpu_restore_state_x86_64",
    "x86_cpu_tlb_fill_x86_64",
    "helper_rdmsr_x86_64",
    "helper_wrmsr_x86_64",
    "helper_read_crN_x86_64",
    "helper_write_crN_x86_64",
    "helper_check_iob_x86_64",
    "helper_check_iow_x86_64",
    "helper_check_iol_x86_64",
    "tb_invalidate_phys_range_x86_64",
    "tlb_flush_x86_64",
    "tb_flush_x86_64",
    "get_page_addr_code_x86_64",
    "tb_htable_lookup_x86_64",
    "helper_check_exit_request_x86_64",
    "tcg_gen_callN_x86_64",
    "tcg_gen_exit_tb_x86_64",
    "tcg_gen_op1_x86_64",
    "tcg_gen_op3_x86_64",
    "gen_new_label_x86_64",
    "tcg_gen_brcondi_i32_x86_64",
    "x86_ldq_phys_x86_64",
    "x86_stl_phys_notdirty_x86_64",
    *(f"helper_{name}{kind}_x86_64" for name in ("add", "sub", "mul", "div", "sqrt") for kind in SSE_KINDS),
    *(f"helper_{name}_x86_64" for name in ("cvtss2sd", "cvtsd2ss", "ucomisd", "comisd", "ucomiss", "comiss")),
)

HF_CPL = 3
HF_CS32 = 1 << 4
HF_SS32 = 1 << 5
HF_ADDSEG = 1 << 6
HF_LMA = 1 << 14
HF_CS64 = 1 << 15
HF_SVME = 1 << 20
EFER_SVME = 1 << 12
EFER_LMA = 1 << 10
TASK_BUSY = 1 << 9
SEGMENT_LONG = 1 << 21
SEGMENT_DEFAULT_32 = 1 << 22


class SegmentState(ctypes.Structure):
    """A segment register with its hidden part."""

    _fields_ = (
        ("selector", ctypes.c_uint32),
        ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    )


class Env(ctypes.Structure):
    """The beginning of CPUX86State."""

    _fields_ = (
        ("regs", ctypes.c_uint64 * 16),
        ("eip", ctypes.c_uint64),
        ("eflags", ctypes.c_uint64),
        ("cc_dst", ctypes.c_uint64),
        ("cc_src", ctypes.c_uint64),
        ("cc_src2", ctypes.c_uint64),
        ("cc_op", ctypes.c_uint32),
        ("df", ctypes.c_int32),
        ("hflags", ctypes.c_uint32),
        ("hflags2", ctypes.c_uint32),
        ("segs", SegmentState * 6),
        ("ldt", SegmentState),
        ("tr", SegmentState),
        ("gdt", SegmentState),
        ("idt", SegmentState),
        ("cr", ctypes.c_uint64 * 5),
    )


def pointer(address: int) -> int:
    """The 64-bit word at a host address."""
    return ctypes.c_uint64.from_address(address).value


def env_address(uc: int) -> int:
    """Address of the processor's CPUX86State, for the engine structure at `uc`."""
    return pointer(uc + LAYOUT["UC_CPU"]) + LAYOUT["CPU_ENV"]


def _refuse(what: str) -> HostError:
    return HostError(
        f"this libunicorn is not the one that ringminus knows ({what}): "
        f"install the wheel of unicorn {VERSION} for x86-64 Linux, with `pip install unicorn=={VERSION}`"
    )


def check_version(version: str) -> None:
    """Raise `HostError` for another version than ours."""
    if version != VERSION:
        raise _refuse(f"its version is {version}")
    if _native.LAYOUT != LAYOUT:
        wrong = sorted(set(_native.LAYOUT.items()) ^ set(LAYOUT.items()))
        raise _refuse(f"layout.h and layout.py disagree on {wrong}; build the package again")


def check_live(uc: int, write_marker: Callable[[str, int], None], interposed: bool) -> None:
    """Write markers through the public interface and find them through the private layout.

    `write_marker(name, value)` sets `rax`, `cr2`, `xmm0` or `lstar`; raises `HostError` when one is not
    where it should be.
    """
    env = env_address(uc)
    places = {
        "rax": env,
        "cr2": env + LAYOUT["ENV_CR"] + 16,
        "xmm0": env + LAYOUT["ENV_XMM"],
        "lstar": env + LAYOUT["ENV_LSTAR"],
    }
    for number, (name, address) in enumerate(places.items()):
        marker = 0x1122_3344_5566_7780 + number
        write_marker(name, marker)
        if pointer(address) != marker:
            raise _refuse(f"{name} is not where it should be")
        write_marker(name, 0)
    if not interposed:
        raise HostError(
            "libunicorn was loaded before ringminus and does not use our processor functions: "
            "import ringminus before unicorn"
        )
