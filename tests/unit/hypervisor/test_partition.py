"""A partition as a whole: interrupts' ways, idle, address spaces, save and restore."""

from __future__ import annotations

import pytest

from ringminus.clock import MockClock
from ringminus.hypervisor.intercepts import MmioSpace, PortSpace
from ringminus.hypervisor.wire import Message
from ringminus.tap import MmioAccess, PortIo
from support.hypervisor import SIM_PAGE, FakeEngine, Guest

GUEST_IDLE, ASSIST_PAGE, ICR = 0x400000F0, 0x40000073, 0x830
IOAPIC, APIC_PAGE = 0xFEC00000, 0xFEE00000
FIXED, LOWEST, LOGICAL = 0, 1, 1 << 11


class Device:
    """Remembers what it was asked, and answers 0x1122334455667788."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def port_in(self, port: int, size: int) -> int:
        self.asked.append(("in", port, size))
        return 0x1122334455667788

    def port_out(self, port: int, size: int, value: int) -> None:
        self.asked.append(("out", port, size, value))

    def mmio_read(self, offset: int, size: int) -> int:
        self.asked.append(("read", offset, size))
        return 0x1122334455667788

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        self.asked.append(("write", offset, size, value))


# ---------------------------------------------------------------- address spaces


def test_an_absent_port_reads_ones_and_swallows_writes() -> None:
    ports = PortSpace()
    assert [ports.port_in(0x80, size) for size in (1, 2, 4)] == [0xFF, 0xFFFF, 0xFFFFFFFF]
    ports.port_out(0x80, 1, 0x55)


def test_a_port_device_gets_absolute_ports_and_trimmed_values() -> None:
    ports, device = PortSpace(), Device()
    ports.register(0x3F8, 8, device)
    assert ports.port_in(0x3FD, 1) == 0x88
    ports.port_out(0x3F8, 1, 0x1FF)
    ports.port_in(0x400, 1)
    assert device.asked == [("in", 0x3FD, 1), ("out", 0x3F8, 1, 0xFF)]


@pytest.mark.parametrize(("first", "count"), [(0x3FF, 1), (0x3F0, 9), (-1, 2), (0xFFFF, 2), (0, 0)])
def test_ports_are_given_once_and_must_exist(first: int, count: int) -> None:
    ports = PortSpace()
    ports.register(0x3F8, 8, Device())
    with pytest.raises(ValueError, match="port"):
        ports.register(first, count, Device())


def test_absent_mmio_reads_ones_and_swallows_writes() -> None:
    space, device = MmioSpace(), Device()
    space.register(0x1000, 0x100, device)
    for gpa in (0, 0xFFF, 0x10FD, 0x1100, 1 << 60):
        assert space.mmio_read(gpa, 4) == 0xFFFFFFFF
        space.mmio_write(gpa, 4, 0)
    assert not device.asked


def test_an_mmio_device_gets_offsets() -> None:
    space, low, high = MmioSpace(), Device(), Device()
    space.register(0x2000, 0x10, high)
    space.register(0x1000, 0x1000, low)
    assert space.mmio_read(0x1FF8, 8) == 0x1122334455667788
    space.mmio_write(0x2004, 2, 0x12345)
    assert (low.asked, high.asked) == ([("read", 0xFF8, 8)], [("write", 4, 2, 0x2345)])


@pytest.mark.parametrize(("gpa", "size"), [(0x1000, 1), (0xFFF, 2), (0x10FF, 1), (0x800, 0x1000), (0, 0)])
def test_mmio_ranges_do_not_overlap(gpa: int, size: int) -> None:
    space = MmioSpace()
    space.register(0x1000, 0x100, Device())
    with pytest.raises(ValueError, match="taken or empty"):
        space.register(gpa, size, Device())


def test_the_tap_sees_ports_and_mmio() -> None:
    guest = Guest()
    ports: list[PortIo] = []
    mmio: list[MmioAccess] = []
    guest.tap.listen(PortIo, ports.append)
    guest.tap.listen(MmioAccess, mmio.append)
    guest.vp.port_in(0x71, 1)
    guest.vp.port_out(0x70, 1, 0xA)
    guest.vp.mmio_read(0xFFFFF000, 4)
    guest.vp.mmio_write(0xFFFFF000, 4, 7)
    assert [(e.port, e.write, e.value) for e in ports] == [(0x71, False, 0xFF), (0x70, True, 0xA)]
    assert [(e.write, e.value) for e in mmio] == [(False, 0xFFFFFFFF), (True, 7)]


# ---------------------------------------------------------------- interrupts


def set_pin(guest: Guest, pin: int, entry: int) -> None:
    for half in range(2):
        guest.vp.mmio_write(IOAPIC, 4, 0x10 + 2 * pin + half)
        guest.vp.mmio_write(IOAPIC + 0x10, 4, entry >> 32 * half & 0xFFFFFFFF)


def started(vp_count: int) -> Guest:
    guest = Guest(vp_count=vp_count)
    for vp in guest.partition.vps:
        vp.write_msr(0x80F, 0x1FF)
    return guest


def offered(guest: Guest) -> list[int | None]:
    return [processor.offered for processor in guest.engine.processors]


def test_the_io_apic_reaches_the_processor_it_names() -> None:
    guest = started(2)
    set_pin(guest, 4, 1 << 56 | 0x34)
    guest.partition.ioapic.pulse(4)
    assert offered(guest) == [None, 0x34]


def test_the_io_apics_lowest_priority_and_logical_destinations() -> None:
    guest = started(3)
    set_pin(guest, 4, 0xFF << 56 | LOWEST << 8 | 0x34)
    guest.partition.ioapic.pulse(4)
    assert offered(guest) == [0x34, None, None]
    set_pin(guest, 5, 0b110 << 56 | LOGICAL | 0x35)
    guest.partition.ioapic.pulse(5)
    assert offered(guest)[1:] == [0x35, 0x35]


def test_a_level_interrupt_comes_again_after_its_eoi() -> None:
    guest = started(1)
    set_pin(guest, 4, 1 << 15 | 0x34)
    guest.partition.ioapic.set_irq(4, True)
    assert guest.processor.accept() == 0x34
    guest.write(0x80B, 0)
    assert guest.processor.accept() == 0x34
    guest.partition.ioapic.set_irq(4, False)
    guest.write(0x80B, 0)
    assert guest.processor.accept() is None


@pytest.mark.parametrize(
    ("icr", "who"),
    [
        (1 << 32 | 0x41, [None, 0x41, None]),
        (0xFFFFFFFF << 32 | 0x41, [0x41, 0x41, 0x41]),
        (2 << 18 | 0x41, [0x41, 0x41, 0x41]),
        (3 << 18 | 0x41, [None, 0x41, 0x41]),
        (0b100 << 32 | LOGICAL | 0x41, [None, None, 0x41]),
        (1 << 32 | 5 << 8 | 1 << 14, [None, None, None]),
    ],
    ids=["one", "broadcast", "all", "others", "logical", "init"],
)
def test_ipis_reach_their_destinations(icr: int, who: list[int | None]) -> None:
    guest = started(3)
    guest.write(ICR, icr)
    assert offered(guest) == who


def test_the_apic_page_is_each_processors_own() -> None:
    guest = started(2)
    for vp in guest.partition.vps:
        vp.write_msr(0x1B, vp.read_msr(0x1B) & ~0xC00)
        vp.write_msr(0x1B, vp.read_msr(0x1B) | 0x800)
    assert [vp.mmio_read(APIC_PAGE + 0x20, 4) >> 24 for vp in guest.partition.vps] == [0, 1]
    assert guest.vp.mmio_read(APIC_PAGE + 0xFFE, 4) == 0xFFFFFFFF


# ---------------------------------------------------------------- idle


def test_guest_idle_gives_the_processor_up_until_an_interrupt() -> None:
    """TLFS, vp-properties.md, "Virtual Processor Idle Sleep State"."""
    guest = started(1)
    assert guest.read(GUEST_IDLE) == 0
    assert guest.vp.idle
    assert guest.processor.stopped == 1
    assert not guest.vp.has_interrupt()
    guest.vp.apic.raise_vector(0x40, "test")
    assert guest.vp.has_interrupt()


def test_guest_idle_with_an_interrupt_there_goes_on_at_once() -> None:
    guest = started(1)
    guest.vp.apic.raise_vector(0x40, "test")
    guest.read(GUEST_IDLE)
    assert not guest.vp.idle
    assert guest.processor.stopped == 0


def test_the_assist_page_is_an_overlay_of_zeros() -> None:
    guest = Guest()
    guest.memory.write(0x60000, b"\xff" * 4096)
    guest.write(ASSIST_PAGE, 0x60001)
    assert not any(guest.memory.read(0x60000, 4096))
    guest.write(ASSIST_PAGE, 0)
    assert guest.memory.read(0x60000, 4096) == b"\xff" * 4096


# ---------------------------------------------------------------- save and restore


def busy_guest(engine: FakeEngine) -> Guest:
    guest = Guest(engine=engine)
    guest.name_itself()
    guest.enable_synic()
    guest.write(0x40000001, 0x70001)
    guest.write(0x40000021, 0x71001)
    guest.write(ASSIST_PAGE, 0x72001)
    guest.write(0x400000B0, 1 << 12 | 0xED << 4 | 8)
    guest.write(0x400000B1, 5000)
    guest.write(0x400000B2, 3 << 16 | 8)
    guest.write(0x400000B3, 1)  # its message waits: SINT3's slot is taken below
    guest.write(0x40000101, 42)
    for text in (b"first", b"second", b"third"):
        guest.vp.synic.post_message(2, 1, text)
    set_pin(guest, 4, 0x34)
    return guest


def test_a_restored_partition_is_the_saved_one() -> None:
    clock = MockClock()
    engine = FakeEngine(clock=clock)
    before = busy_guest(engine)
    state = before.partition.save()
    after = Guest(engine=FakeEngine(memory=engine.memory, clock=clock))
    after.partition.restore(state)
    assert after.partition.save() == state


def test_a_restored_partition_goes_on() -> None:
    clock = MockClock()
    engine = FakeEngine(clock=clock)
    state = busy_guest(engine).partition.save()
    after = Guest(engine=FakeEngine(memory=engine.memory, clock=clock))
    after.partition.restore(state)
    assert after.processor.accept() == 0xF3
    after.write(0x40000070, 0)
    after.memory.write_u32(SIM_PAGE + 512, 0)
    after.write(0x40000084, 0)
    assert Message.unpack(after.memory.view(SIM_PAGE + 512, 256)).payload[:6] == b"second"
    assert after.processor.accept() == 0xF3
    after.write(0x40000070, 0)
    after.pass_time(5000)
    assert after.processor.accept() == 0xED
    after.write(0x40000001, 0x70000)
    assert not any(after.memory.read(0x70000, 8))  # the RAM below the hypercall page


def test_saved_state_is_plain_data() -> None:
    def plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str | int) and plain(each) for key, each in value.items())
        if isinstance(value, list | tuple):
            return all(map(plain, value))
        return value is None or isinstance(value, int | str | bytes)

    assert plain(busy_guest(FakeEngine()).partition.save())


@pytest.mark.parametrize("count", [0, 65])
def test_the_number_of_processors_has_limits(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 64"):
        Guest(vp_count=count)
