"""Decoding, checking and answering hypercalls (TLFS, hypercall-interface.md and hypercalls/)."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from ringminus.cpu.engine import GuestException
from ringminus.hypervisor import wire
from ringminus.hypervisor.calls import CALLS, SHAPED
from ringminus.hypervisor.cpuid import SOFTWARE
from ringminus.hypervisor.handlers import Handlers
from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.wire import Feature, Privilege
from ringminus.tap import Hypercall
from support.hypervisor import INPUT_PAGE, MEMORY_SIZE, OUTPUT_PAGE, Guest, with_privileges

FAST = 1 << 16
POST_MESSAGE, SIGNAL_EVENT, SPIN_WAIT = 0x5C, 0x5D, 0x08
FLUSH, FLUSH_LIST, FLUSH_EX, FLUSH_LIST_EX = 0x02, 0x03, 0x13, 0x14
SEND_IPI, SEND_IPI_EX, GET_ID, GET_REGISTERS, SET_REGISTERS = 0x0B, 0x15, 0x46, 0x50, 0x51
QUERY_CAPABILITIES = 0x8001
SELF = wire.VpRegistersInput(
    partition_id=wire.PARTITION_ID_SELF, vp_index=wire.VP_INDEX_SELF, target_vtl=0, reserved=b""
)


def rep(count: int, start: int = 0) -> int:
    return count << 32 | start << 48


def header(qwords: int) -> int:
    return qwords << 17


def result(status: int, done: int = 0) -> int:
    return status | done << 32


@pytest.fixture
def guest() -> Guest:
    made = Guest()
    made.name_itself()
    return made


@pytest.fixture
def trusted() -> Guest:
    """A guest that may read and write its registers and its partition's id."""
    made = Guest(with_privileges(Privilege.VP_REGISTERS | Privilege.PARTITION_ID))
    made.name_itself()
    return made


# ---------------------------------------------------------------- codes and privileges


def test_every_call_has_one_code() -> None:
    assert len({call.name for call in CALLS.values()}) == len(CALLS)
    assert CALLS[POST_MESSAGE].name == "HvCallPostMessage"
    assert CALLS[0x7E].name == "HvCallRetargetDeviceInterrupt"


def test_every_shaped_call_has_a_handler_and_every_handler_a_shape() -> None:
    guest = Guest(flush_tlb=lambda vp: None)
    assert set(Handlers(guest.vp).table()) == {call.code for call in SHAPED}


def test_an_unknown_code_is_2(guest: Guest) -> None:
    assert guest.hypercall(0x7FFF) == HvStatus.INVALID_HYPERCALL_CODE


def test_a_call_that_exists_without_its_privilege_is_6(guest: Guest) -> None:
    for code, call in CALLS.items():
        if call.privilege not in SOFTWARE.privileges:
            assert guest.hypercall(code | (rep(1) if call.rep else 0)) == HvStatus.ACCESS_DENIED, call.name


def test_a_call_that_is_not_offered_is_2_and_logged_by_name(
    guest: Guest, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="ringminus.hypervisor.hypercalls"):
        assert guest.hypercall(0x7E) == HvStatus.INVALID_HYPERCALL_CODE
    assert "HvCallRetargetDeviceInterrupt" in caplog.text


def test_posting_and_signalling_need_their_privileges() -> None:
    guest = Guest(replace(SOFTWARE, privileges=Privilege.HYPERCALL, features=Feature(0)))
    guest.name_itself()
    assert guest.hypercall(SIGNAL_EVENT | FAST) == HvStatus.ACCESS_DENIED
    assert guest.hypercall(POST_MESSAGE) == HvStatus.ACCESS_DENIED
    assert guest.hypercall(QUERY_CAPABILITIES) == HvStatus.ACCESS_DENIED


# ---------------------------------------------------------------- the input value


@pytest.mark.parametrize("bit", [27, 28, 29, 30, 31, 44, 47, 60, 63])
def test_reserved_bits_are_3(guest: Guest, bit: int) -> None:
    assert guest.hypercall(SPIN_WAIT | FAST | 1 << bit) == HvStatus.INVALID_HYPERCALL_INPUT


@pytest.mark.parametrize("extra", [rep(1), rep(0, 1), header(1)])
def test_a_simple_call_has_no_reps_and_no_variable_header(guest: Guest, extra: int) -> None:
    assert guest.hypercall(SPIN_WAIT | FAST | extra) == HvStatus.INVALID_HYPERCALL_INPUT


@pytest.mark.parametrize("reps", [rep(0), rep(1, 1), rep(3, 4)])
def test_a_rep_call_has_more_reps_than_its_start(trusted: Guest, reps: int) -> None:
    assert trusted.call_with(GET_REGISTERS | reps, SELF.pack()) == HvStatus.INVALID_HYPERCALL_INPUT


# ---------------------------------------------------------------- parameter lists


@pytest.mark.parametrize(
    "gpa",
    [INPUT_PAGE + 4, INPUT_PAGE + 0x1000 - 0xF8, MEMORY_SIZE, (1 << 64) - 8, 0xFEE00000],
    ids=["not aligned", "crosses a page", "beyond RAM", "last", "the APIC"],
)
def test_a_bad_input_pointer_is_4(guest: Guest, gpa: int) -> None:
    assert guest.hypercall(POST_MESSAGE, gpa) == HvStatus.INVALID_ALIGNMENT


def test_a_bad_output_pointer_is_4(guest: Guest) -> None:
    assert guest.hypercall(QUERY_CAPABILITIES, 0, OUTPUT_PAGE + 4) == HvStatus.INVALID_ALIGNMENT
    assert guest.hypercall(QUERY_CAPABILITIES, 0, MEMORY_SIZE) == HvStatus.INVALID_ALIGNMENT


def test_pointers_that_are_not_needed_are_ignored(guest: Guest) -> None:
    assert guest.hypercall(QUERY_CAPABILITIES, 3, OUTPUT_PAGE) == HvStatus.SUCCESS


def test_query_capabilities_writes_its_output(guest: Guest) -> None:
    guest.memory.write(OUTPUT_PAGE, b"\xff" * 16)
    guest.hypercall(QUERY_CAPABILITIES, 0, OUTPUT_PAGE)
    assert guest.memory.read(OUTPUT_PAGE, 16) == bytes(8) + b"\xff" * 8


def test_a_fast_call_takes_its_input_from_rdx_and_r8(guest: Guest) -> None:
    guest.enable_apic()
    assert guest.hypercall(SEND_IPI | FAST, 0x40, 0b1) == 0
    assert guest.processor.accept() == 0x40


def test_a_fast_call_with_more_input_than_the_registers_hold_is_3(guest: Guest) -> None:
    assert guest.hypercall(POST_MESSAGE | FAST) == HvStatus.INVALID_HYPERCALL_INPUT


def test_xmm_registers_continue_the_block() -> None:
    flushed: list[int] = []
    guest = Guest(flush_tlb=flushed.append, vp_count=2)
    guest.name_itself()
    guest.processor.xmms[0] = 0b10  # the processor mask, 16 bytes into the input
    assert guest.hypercall(FLUSH | FAST, 0, 0) == 0
    assert flushed == [1]


def test_xmm_input_that_is_not_offered_is_ud() -> None:
    profile = replace(SOFTWARE, features=SOFTWARE.features & ~Feature.XMM_HYPERCALL_INPUT)
    guest = Guest(profile, flush_tlb=lambda vp: None)
    guest.name_itself()
    with pytest.raises(GuestException):
        guest.hypercall(FLUSH | FAST)


def test_fast_output_follows_the_input_in_the_registers(trusted: Guest) -> None:
    names = wire.RegisterName(name=0x00090003).pack()  # 16 bytes of header and one name: 20, so to XMM1
    trusted.processor.xmms[:3] = [int.from_bytes(names, "little"), 0xDEAD, 0xBEEF]
    rdx, r8 = wire.PARTITION_ID_SELF, wire.VP_INDEX_SELF
    assert trusted.hypercall(GET_REGISTERS | FAST | rep(1), rdx, r8) == result(0, 1)
    assert trusted.processor.xmms[1:3] == [0, 0xBEEF]


def test_fast_output_without_input_is_in_rdx(trusted: Guest) -> None:
    assert trusted.hypercall(GET_ID | FAST) == 0
    assert trusted.processor.general_register(2) == trusted.partition.partition_id


def test_fast_output_that_is_not_offered_is_ud() -> None:
    without = replace(SOFTWARE, features=SOFTWARE.features & ~Feature.XMM_HYPERCALL_OUTPUT)
    guest = Guest(without)
    guest.name_itself()
    with pytest.raises(GuestException):
        guest.hypercall(QUERY_CAPABILITIES | FAST)


# ---------------------------------------------------------------- reps


def test_reps_completed_are_counted_from_the_lists_beginning(trusted: Guest) -> None:
    names = b"".join(wire.RegisterName(name=name).pack() for name in (0, 0x00090002, 0x00090003))
    assert trusted.call_with(GET_REGISTERS | rep(3, 1), SELF.pack() + names) == result(0, 3)
    values = [wire.RegisterValue.unpack(trusted.memory.view(OUTPUT_PAGE + 16 * n, 16)).low for n in range(3)]
    assert values == [0, 0x8100 << 48 | 0x060100 << 16, 0]


def test_a_failing_rep_tells_how_many_were_done(trusted: Guest) -> None:
    names = b"".join(wire.RegisterName(name=name).pack() for name in (0x00090003, 0x12345678))
    outcome = trusted.call_with(GET_REGISTERS | rep(2), SELF.pack() + names)
    assert outcome == result(HvStatus.INVALID_PARAMETER, 1)


def test_rcx_is_left_with_the_new_start(trusted: Guest) -> None:
    """TLFS, "Volatile Registers"."""
    names = wire.RegisterName(name=0x00090003).pack()
    trusted.call_with(GET_REGISTERS | rep(1), SELF.pack() + names)
    assert trusted.processor.general_register(1) == GET_REGISTERS | rep(1, 1)


# ---------------------------------------------------------------- registers


def test_registers_are_other_names_of_msrs_and_cpuid_leaves(trusted: Guest) -> None:
    names = b"".join(wire.RegisterName(name=name).pack() for name in (0x00000200, 0x000A0002))
    assert trusted.call_with(GET_REGISTERS | rep(2), SELF.pack() + names) == result(0, 2)
    features = wire.RegisterValue.unpack(trusted.memory.view(OUTPUT_PAGE, 16))
    assert features.low == int(trusted.partition.profile.privileges)
    assert features.high >> 32 == int(SOFTWARE.features)
    assert trusted.memory.read_u64(OUTPUT_PAGE + 16) == 0x10000  # SINT2 after reset


def test_registers_can_be_written(trusted: Guest) -> None:
    one = wire.RegisterAssociation(name=0x000A0002, reserved=b"", low=0xF3, high=0)
    assert trusted.call_with(SET_REGISTERS | rep(1), SELF.pack() + one.pack()) == result(0, 1)
    assert trusted.read(0x40000092) == 0xF3
    bad = wire.RegisterAssociation(name=0x000A0002, reserved=b"", low=1, high=0)
    outcome = trusted.call_with(SET_REGISTERS | rep(1), SELF.pack() + bad.pack())
    assert outcome == result(HvStatus.INVALID_PARAMETER, 0)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"partition_id": 77}, HvStatus.INVALID_PARTITION_ID),
        ({"vp_index": 1}, HvStatus.INVALID_VP_INDEX),
        ({"target_vtl": 1}, HvStatus.INVALID_PARAMETER),
    ],
)
def test_registers_of_others_are_refused(trusted: Guest, change: dict[str, int], status: HvStatus) -> None:
    fields = {"partition_id": wire.PARTITION_ID_SELF, "vp_index": 0, "target_vtl": 0, **change}
    whose = wire.VpRegistersInput(**fields, reserved=b"")
    assert trusted.call_with(GET_REGISTERS | rep(1), whose.pack() + bytes(8)) == status


# ---------------------------------------------------------------- flushes and interrupts


def flusher(vp_count: int = 4) -> tuple[Guest, list[int]]:
    flushed: list[int] = []
    guest = Guest(vp_count=vp_count, flush_tlb=flushed.append)
    guest.name_itself()
    return guest, flushed


def test_without_a_way_to_flush_the_flushes_are_not_offered(guest: Guest) -> None:
    assert guest.call_with(FLUSH, bytes(24)) == HvStatus.INVALID_HYPERCALL_CODE


def test_a_flush_reaches_the_processors_of_its_mask() -> None:
    guest, flushed = flusher()
    mask = 0b1010 | 1 << 40  # one that does not exist
    assert guest.call_with(FLUSH, wire.FlushInput(address_space=0, flags=0, processor_mask=mask).pack()) == 0
    assert flushed == [1, 3]


def test_a_flush_for_all_ignores_the_mask() -> None:
    guest, flushed = flusher()
    guest.call_with(FLUSH, wire.FlushInput(address_space=0, flags=1 | 2 | 4, processor_mask=0).pack())
    assert flushed == [0, 1, 2, 3]


@pytest.mark.parametrize(("code", "flags"), [(FLUSH, 8), (FLUSH, 16), (FLUSH_LIST, 4), (FLUSH_LIST, 8)])
def test_flags_that_do_not_apply_are_5(code: int, flags: int) -> None:
    guest, flushed = flusher()
    data = wire.FlushInput(address_space=0, flags=flags, processor_mask=1).pack() + bytes(8)
    control = code | (rep(1) if code == FLUSH_LIST else 0)
    assert guest.call_with(control, data) & 0xFFFF == HvStatus.INVALID_PARAMETER
    assert not flushed


def test_a_list_flush_does_all_its_ranges() -> None:
    guest, flushed = flusher()
    data = wire.FlushInput(address_space=0, flags=0, processor_mask=1).pack() + bytes(8 * 5)
    assert guest.call_with(FLUSH_LIST | rep(5), data) == result(0, 5)
    assert flushed == [0]


def test_a_sparse_set_has_a_bank_for_each_bit() -> None:
    guest, flushed = flusher()
    fields = wire.FlushInputEx(address_space=0, flags=0, set_format=0, valid_banks=0b101).pack()
    banks = (0b0110).to_bytes(8, "little") + (1).to_bytes(8, "little")
    assert guest.call_with(FLUSH_EX | header(2), fields + banks) == 0
    assert flushed == [1, 2]  # VP 128 does not exist
    assert guest.call_with(FLUSH_EX | header(1), fields + banks) == HvStatus.INVALID_HYPERCALL_INPUT


def test_the_set_of_all_needs_no_banks() -> None:
    guest, flushed = flusher(2)
    fields = wire.FlushInputEx(address_space=0, flags=0, set_format=1, valid_banks=0).pack()
    assert guest.call_with(FLUSH_LIST_EX | rep(1), fields + bytes(8)) == result(0, 1)
    assert flushed == [0, 1]
    bad = wire.FlushInputEx(address_space=0, flags=0, set_format=2, valid_banks=0).pack()
    assert guest.call_with(FLUSH_EX, bad) == HvStatus.INVALID_PARAMETER


def test_a_cluster_ipi_raises_its_vector_on_its_targets() -> None:
    guest = Guest(vp_count=3)
    guest.name_itself()
    for vp in guest.partition.vps:
        vp.write_msr(0x80F, 0x1FF)
    assert guest.hypercall(SEND_IPI | FAST, 0x51, 0b110) == 0
    assert [p.offered for p in guest.engine.processors] == [None, 0x51, 0x51]
    fields = wire.ClusterIpiInputEx(vector=0x61, target_vtl=0, reserved=b"", set_format=1, valid_banks=0)
    assert guest.call_with(SEND_IPI_EX, fields.pack()) == 0
    assert [p.offered for p in guest.engine.processors] == [0x61, 0x61, 0x61]


@pytest.mark.parametrize("rdx", [0x0F, 0x100, 0x40 | 1 << 32])
def test_a_cluster_ipi_with_a_bad_vector_or_vtl_is_5(guest: Guest, rdx: int) -> None:
    assert guest.hypercall(SEND_IPI | FAST, rdx, 1) == HvStatus.INVALID_PARAMETER


def test_a_long_spin_wait_always_succeeds(guest: Guest) -> None:
    assert guest.hypercall(SPIN_WAIT | FAST, 0xFFFFFFFF_FFFFFFFF) == 0


# ---------------------------------------------------------------- observation


def test_the_tap_sees_calls_decoded(guest: Guest) -> None:
    seen: list[Hypercall] = []
    guest.tap.listen(Hypercall, seen.append)
    guest.hypercall(SIGNAL_EVENT | FAST, 0x2005 | 3 << 32)
    guest.hypercall(0x7FFF)
    guest.hypercall(POST_MESSAGE, MEMORY_SIZE)
    assert [(e.name, e.status) for e in seen] == [
        ("HvCallSignalEvent", "INVALID_CONNECTION_ID"),
        ("0x7fff", "INVALID_HYPERCALL_CODE"),
        ("HvCallPostMessage", "INVALID_ALIGNMENT"),
    ]
    assert "connection_id=0x2005, flag_number=3" in seen[0].detail
