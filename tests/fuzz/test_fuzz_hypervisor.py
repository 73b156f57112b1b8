"""A hostile guest against the whole hypervisor.

Whatever it does, only a `GuestException` may come out, no memory but its own may be touched, and nothing
may grow without bound. Memory outside RAM cannot be touched without `BadGuestAddress`, which is no
`GuestException`, so it would fail the test.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringminus.cpu.engine import GuestException
from ringminus.hypervisor.calls import CALLS
from ringminus.hypervisor.cpuid import SOFTWARE
from ringminus.hypervisor.msrs import MSRS
from ringminus.hypervisor.partition import CRASH_REPORTS_KEPT
from ringminus.hypervisor.ports import EventPort, MessagePort
from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.synic import QUEUE_LIMIT
from ringminus.hypervisor.wire import MESSAGE_PAYLOAD_LIMIT, SINTS, Feature, Privilege
from ringminus.memory import PAGE_SIZE, GuestMemory
from ringminus.tap import EVENTS, Event, Tap
from support.effort import examples
from support.hypervisor import MEMORY_SIZE, FakeEngine, Guest

MEMORY = GuestMemory(MEMORY_SIZE)
ALL_PRIVILEGES = replace(
    SOFTWARE,
    privileges=Privilege((1 << 64) - 1),
    features=Feature(0xFFFFFFFF),
)
U64 = (1 << 64) - 1
EDGES = (0, 1, 0xFFF, 0x1000, MEMORY_SIZE - 1, MEMORY_SIZE, 0xFEC00000, 0xFEE00000, 1 << 32, 1 << 52, U64)

values = st.one_of(
    st.integers(0, U64),
    st.sampled_from(EDGES),
    st.builds(lambda page, low: page * PAGE_SIZE | low, st.integers(0, 64), st.integers(0, 15)),
    st.builds(lambda bit: 1 << bit, st.integers(0, 63)),
)
msr_numbers = st.one_of(
    st.sampled_from(sorted(MSRS)), st.integers(0x40000000, 0x40000200), st.integers(0, 0xFFFFFFFF)
)
controls = st.one_of(
    st.builds(
        lambda code, fast, header, count, start: code | fast << 16 | header << 17 | count << 32 | start << 48,
        st.sampled_from(sorted(CALLS)),
        st.integers(0, 1),
        st.sampled_from((0, 0, 0, 1, 2, 1023)),
        st.sampled_from((0, 0, 1, 2, 3, 8, 500, 4095)),
        st.sampled_from((0, 0, 0, 1, 7, 4095)),
    ),
    st.integers(0, U64),
)
steps = st.one_of(
    st.tuples(st.just("read"), msr_numbers),
    st.tuples(st.just("write"), msr_numbers, values),
    st.tuples(st.just("call"), controls, values, values),
    st.tuples(st.just("cpuid"), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)),
    st.tuples(st.just("port"), st.integers(0, 0xFFFF), st.sampled_from((1, 2, 4)), values),
    st.tuples(st.just("mmio"), values, st.sampled_from((1, 2, 4, 8)), values),
    st.tuples(st.just("cr8"), values),
    st.tuples(st.just("memory"), st.integers(0, 63), st.binary(max_size=64)),
    st.tuples(st.just("xmm"), st.integers(0, 5), st.integers(0, (1 << 128) - 1)),
    st.tuples(st.just("mode"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("post"), st.integers(0, SINTS - 1), st.binary(max_size=MESSAGE_PAYLOAD_LIMIT)),
    st.tuples(st.just("event"), st.integers(0, SINTS - 1), st.integers(0, 2047)),
    st.tuples(st.just("time"), st.integers(0, 1_000_000)),
    st.tuples(st.just("accept")),
)


def read_aloud(event: Event) -> None:
    """A listener that looks at every field."""
    assert repr(event)


def make_guest(watched: bool) -> Guest:
    guest = Guest(ALL_PRIVILEGES, 2, lambda vp: None, FakeEngine(memory=MEMORY))
    guest.partition.connections.connect(1, MessagePort(lambda kind, payload: HvStatus.SUCCESS))
    guest.partition.connections.connect(2, EventPort(lambda flag: HvStatus.SUCCESS, flag_count=3))
    if watched:
        for event in EVENTS:
            guest.tap.listen(event, read_aloud)
    guest.name_itself()
    guest.enable_synic()
    return guest


def do(guest: Guest, step: tuple[object, ...]) -> None:
    """One thing that a guest or its host does."""
    name, *given_values = step
    a, b, c = (*given_values, 0, 0, 0)[:3]
    vp, processor = guest.vp, guest.processor
    assert isinstance(a, int)
    if name == "read":
        assert 0 <= vp.read_msr(a) <= U64
    elif name == "cpuid":
        assert isinstance(b, int)
        assert all(0 <= register < 1 << 32 for register in vp.cpuid(a, b))
    elif name == "cr8":
        vp.write_cr8(a)
    elif name == "time":
        guest.pass_time(a)
    elif name == "accept":
        processor.accept()
    elif name == "mode":
        processor.current_cpl, processor.is_long = (0 if a < 3 else 3), b is not False
    elif name == "post":
        assert isinstance(b, bytes)
        vp.synic.post_message(a, 1, b)
    elif name == "memory":
        assert isinstance(b, bytes)
        guest.memory.write(a * PAGE_SIZE, b)
    else:
        assert isinstance(b, int) and isinstance(c, int)
        exits(guest, str(name), a, b, c)


def exits(guest: Guest, name: str, a: int, b: int, c: int) -> None:
    """Those steps that take up to three numbers."""
    vp = guest.vp
    if name == "write":
        vp.write_msr(a, b)
    elif name == "call":
        assert vp.hypercall(a, b, c) & 0xFFFF in set(HvStatus)
    elif name == "port":
        vp.port_out(a, b, c)
        vp.port_in(a, b)
    elif name == "mmio":
        vp.mmio_write(a, b, c)
        assert 0 <= vp.mmio_read(a, b) < 1 << 8 * b
    elif name == "xmm":
        guest.processor.set_xmm(a, b)
    elif name == "event":
        vp.synic.signal_event(a, b)
    else:
        raise AssertionError(f"{name} is no step")


def check_bounds(guest: Guest) -> None:
    assert all(guest.vp.synic.queued(sint) <= QUEUE_LIMIT for sint in range(SINTS))
    assert len(guest.partition.crash_reports) <= CRASH_REPORTS_KEPT
    assert guest.processor.offered is None or 16 <= guest.processor.offered <= 255


@given(st.lists(steps, max_size=60), st.booleans())
@settings(max_examples=examples(250), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_hostile_guest_gets_exceptions_and_nothing_else(
    sequence: list[tuple[object, ...]], watched: bool
) -> None:
    guest = make_guest(watched)
    for step in sequence:
        with contextlib.suppress(GuestException):
            do(guest, step)
    check_bounds(guest)


@given(controls, st.binary(min_size=1, max_size=320), values, st.lists(values, min_size=6, max_size=6))
@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_input_page_is_survived(control: int, page: bytes, offset: int, xmms: list[int]) -> None:
    guest = make_guest(False)
    guest.memory.write(0x80000, (page * PAGE_SIZE)[:PAGE_SIZE])
    guest.processor.xmms[:6] = xmms
    with contextlib.suppress(GuestException):
        result = guest.hypercall(control, 0x80000 + (offset & 0xFF8), 0x81000 + (offset >> 12 & 0xFF8))
        assert result & 0xFFFF in set(HvStatus)
        done, count = result >> 32 & 0xFFF, control >> 32 & 0xFFF
        assert done <= count


@given(st.lists(steps, max_size=40))
@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_reachable_state_can_be_saved_and_restored(sequence: list[tuple[object, ...]]) -> None:
    guest = make_guest(False)
    for step in sequence:
        with contextlib.suppress(GuestException):
            do(guest, step)
    state = guest.partition.save()
    engine = FakeEngine(memory=guest.memory, clock=guest.clock)
    again = Guest(ALL_PRIVILEGES, 2, lambda vp: None, engine)
    again.partition.restore(state)
    assert again.partition.save() == state


def test_the_tap_has_no_other_points() -> None:
    """The watched runs above listen to everything that there is."""
    assert {event.POINT for event in EVENTS} == {
        name for name, value in vars(Tap()).items() if value is None and name not in ("on_change", "later")
    }
