"""What gdb's commands do to a guest: registers, memory, breakpoints, threads, and what is refused."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import pytest

from ringminus.cpu.engine import Access, Debug, DebugReason, Watchpoint
from ringminus.machine.gdb import target
from ringminus.machine.gdb.arguments import Resume
from ringminus.machine.gdb.commands import LARGEST_READ, Stub
from ringminus.memory import PAGE_SIZE
from support.bare_metal import CODE, PML4, BareGuest, long_mode_registers

DATA = 0x50000
ALIAS = 0x4000_0000
FAULT, INVALID = b"E0e", b"E16"


class Calls:
    """A `Control` that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def resume(self, how: Resume) -> None:
        self.told.append(how)

    def kill(self) -> None:
        self.told.append("kill")

    def detach(self) -> None:
        self.told.append("detach")

    def monitor(self, words: str) -> str:
        return f"you said {words}\n" * (5000 if words == "much" else 1)


@pytest.fixture
def bare() -> Iterator[BareGuest]:
    guest = BareGuest("inc rax; inc rax; hlt")
    yield guest
    guest.close()


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def stub(bare: BareGuest, calls: Calls) -> Stub:
    stub = Stub(calls)
    stub.processors, stub.memory = [bare.processor], bare.memory
    return stub


def ask(stub: Stub, payload: bytes) -> bytes:
    (answer,) = stub.answer(payload)
    return answer


def number_of(name: str) -> int:
    return [register.name for register in target.REGISTERS].index(name)


def get(stub: Stub, name: str) -> int:
    return int.from_bytes(bytes.fromhex(ask(stub, b"p%x" % number_of(name)).decode()), "little")


def put(stub: Stub, name: str, value: int) -> bytes:
    size = target.REGISTERS[number_of(name)].size
    return ask(stub, b"P%x=%b" % (number_of(name), value.to_bytes(size, "little").hex().encode()))


class TestDescription:
    def test_it_comes_in_parts(self, stub: Stub) -> None:
        document, start = b"", 0
        while True:
            part = ask(stub, b"qXfer:features:read:target.xml:%x,100" % start)
            document += part[1:]
            start += 0x100
            if part[:1] == b"l":
                break
        assert document == target.description()

    def test_its_registers_are_those_of_a_g_packet(self, stub: Stub) -> None:
        described = ElementTree.fromstring(target.description()).iter("reg")
        bits = [int(element.get("bitsize", "0")) for element in described]
        assert len(ask(stub, b"g")) == sum(bits) // 4

    def test_every_type_is_gdbs_or_defined_before(self) -> None:
        known = {"int", "int8", "int16", "int32", "int64", "data_ptr", "code_ptr", "i387_ext", "uint128"}
        known |= {"ieee_single", "ieee_double"}
        for element in ElementTree.fromstring(target.description()).iter():
            if element.tag in ("flags", "vector", "union"):
                known.add(element.get("id", ""))
            assert element.get("type", "int") in known

    def test_other_annexes_and_objects_are_refused(self, stub: Stub) -> None:
        assert ask(stub, b"qXfer:features:read:other.xml:0,100") == INVALID
        assert ask(stub, b"qXfer:memory-map:read::0,100") == INVALID


class TestRegisters:
    def test_each_that_can_be_set_reads_as_it_was_set(self, stub: Stub) -> None:
        for name in ("rax", "r15", "rip", "fs_base", "gs_base", "k_gs_base", "cr2", "xmm0", "xmm15", "mxcsr"):
            value = 0x1234 if name == "mxcsr" else 0x1122_3344_5566
            assert put(stub, name, value) == b"OK"
            assert get(stub, name) == value

    def test_setting_one_leaves_the_others(self, stub: Stub) -> None:
        before = ask(stub, b"g")
        put(stub, "rip", 0x20000)
        put(stub, "rip", CODE)
        put(stub, "st3", 5)
        put(stub, "st3", 0)
        after = ask(stub, b"g")
        tag = sum(register.size for register in target.REGISTERS[: number_of("ftag")]) * 2
        assert before[:tag] + before[tag + 8 :] == after[:tag] + after[tag + 8 :]

    def test_flags_and_segments(self, stub: Stub) -> None:
        assert (get(stub, "eflags"), get(stub, "cs"), get(stub, "cr3"), get(stub, "efer")) == (
            2,
            0x10,
            PML4,
            0xD01,
        )
        assert put(stub, "eflags", 0x202) == b"OK"
        assert get(stub, "eflags") == 0x202

    def test_what_cannot_be_set_is_refused(self, stub: Stub) -> None:
        assert put(stub, "cs", 0x33) == INVALID
        assert put(stub, "fop", 1) == INVALID

    def test_all_at_once(self, bare: BareGuest, stub: Stub) -> None:
        values = bytearray.fromhex(ask(stub, b"g").decode())
        values[0:8] = (77).to_bytes(8, "little")
        assert ask(stub, b"G" + values.hex().encode()) == b"OK"
        assert bare.register("rax") == 77
        assert ask(stub, b"G" + values[:-1].hex().encode()) == INVALID

    @pytest.mark.parametrize("packet", [b"p", b"pfff", b"pzz", b"P0", b"P0=12", b"P0=zz", b"p-1", b"P=0"])
    def test_nonsense(self, stub: Stub, packet: bytes) -> None:
        assert ask(stub, packet) == INVALID


class TestMemory:
    def test_it_is_read_and_written_by_linear_address(self, bare: BareGuest, stub: Stub) -> None:
        assert ask(stub, b"M50000,4:01020304") == b"OK"
        assert ask(stub, b"X50004,2:\x05\x06") == b"OK"
        assert bare.memory.read(DATA, 6) == bytes(range(1, 7))
        assert ask(stub, b"m50000,6") == b"010203040506"
        assert ask(stub, b"x50000,6") == b"b" + bytes(range(1, 7))

    def test_pages_need_not_lie_side_by_side(self, bare: BareGuest, stub: Stub) -> None:
        table = 0x200000
        bare.memory.write_u64(PML4 + 0x3000, table | 7)
        for page, frame in enumerate((0x60000, 0x52000)):
            bare.memory.write_u64(table + 8 * page, frame | 7)
        assert ask(stub, b"M%x,4:11223344" % (ALIAS + PAGE_SIZE - 2)) == b"OK"
        assert bare.memory.read(0x60FFE, 2) + bare.memory.read(0x52000, 2) == b"\x11\x22\x33\x44"
        # behind them nothing is mapped: what is there is read, and nothing is written by halves
        assert ask(stub, b"m%x,10" % (ALIAS + 2 * PAGE_SIZE - 4)) == b"00000000"
        assert ask(stub, b"M%x,8:%b" % (ALIAS + 2 * PAGE_SIZE - 4, b"ff" * 8)) == FAULT
        assert bare.memory.read(0x52FFC, 4) == bytes(4)
        assert ask(stub, b"m%x,10" % (ALIAS + 2 * PAGE_SIZE)) == FAULT

    @pytest.mark.parametrize("address", [b"800000000000", b"7f0000000000", b"fffffffffffffff8", b"fee00000"])
    def test_where_nothing_is(self, stub: Stub, address: bytes) -> None:
        assert ask(stub, b"m" + address + b",8") == FAULT
        assert ask(stub, b"M" + address + b",1:00") == FAULT

    def test_physical_addresses_on_demand(self, bare: BareGuest, stub: Stub) -> None:
        bare.memory.write_u64(PML4, 0)  # no linear address is mapped any more
        assert ask(stub, b"m50000,1") == FAULT
        assert ask(stub, b"qqemu.PhyMemMode") == b"0"
        assert ask(stub, b"Qqemu.PhyMemMode:1") == b"OK"
        assert ask(stub, b"qqemu.PhyMemMode") == b"1"
        assert ask(stub, b"m50000,1") == b"00"
        assert ask(stub, b"m3fffffe,8") == b"0000"  # RAM ends there
        assert ask(stub, b"mfffffffffff,8") == FAULT
        assert ask(stub, b"Qqemu.PhyMemMode:2") == INVALID

    def test_code_that_is_written_is_what_runs(self, bare: BareGuest, stub: Stub) -> None:
        bare.processor.run()
        assert ask(stub, b"M%x,1:f4" % CODE) == b"OK"
        bare.processor.set_registers(long_mode_registers(CODE))
        bare.processor.run()
        assert bare.processor.rip == CODE + 1

    def test_a_read_is_no_longer_than_a_packet(self, stub: Stub) -> None:
        assert len(ask(stub, b"m0,ffffffffffffffff")) == 2 * LARGEST_READ

    @pytest.mark.parametrize(
        "packet",
        [
            b"m",
            b"m0",
            b"m0,",
            b"m,1",
            b"m0,1,2",
            b"m-1,1",
            b"m0x0,1",
            b"M0,2:11",
            b"M0,1:1",
            b"X0,1:",
            b"M0,1",
        ],
    )
    def test_nonsense(self, stub: Stub, packet: bytes) -> None:
        assert ask(stub, packet) == INVALID


class TestPoints:
    def test_a_breakpoint_is_set_when_the_guest_goes_on(self, bare: BareGuest, stub: Stub) -> None:
        assert ask(stub, b"qSupported:multiprocess+;swbreak+;hwbreak+;xmlRegisters=i386").startswith(
            b"PacketSize"
        )
        assert ask(stub, b"Z0,%x,1" % (CODE + 3)) == b"OK"
        assert stub.answer(b"vCont;c") == []
        event = bare.processor.run()
        assert isinstance(event, Debug)
        assert stub.stopped_at(0, event) == b"T05swbreak:;thread:1;"
        assert ask(stub, b"?") == b"T05swbreak:;thread:1;"
        assert get(stub, "rip") == CODE + 3

    def test_a_hardware_breakpoint_is_told_as_one(self, bare: BareGuest, stub: Stub) -> None:
        ask(stub, b"qSupported:swbreak+;hwbreak+")
        ask(stub, b"Z1,%x,1" % CODE)
        stub.answer(b"c")
        event = bare.processor.run()
        assert isinstance(event, Debug)
        assert stub.stopped_at(0, event) == b"T05hwbreak:;thread:1;"

    def test_who_does_not_know_the_words_is_not_told(self, stub: Stub) -> None:
        ask(stub, b"qSupported")
        assert stub.stopped_at(0, Debug(DebugReason.BREAKPOINT)) == b"T05thread:1;"

    @pytest.mark.parametrize("kind, word, access", [(2, b"watch", 2), (3, b"rwatch", 1), (4, b"awatch", 3)])
    def test_watchpoints(self, bare: BareGuest, stub: Stub, kind: int, word: bytes, access: int) -> None:
        bare.load(f"mov ebx, {DATA}; mov rax, [rbx]; mov [rbx], rax; hlt")
        assert ask(stub, b"Z%d,50000,8" % kind) == b"OK"
        stub.answer(b"c")
        event = bare.processor.run()
        assert event == Debug(DebugReason.WATCHPOINT, Watchpoint(DATA, 8, Access(access)))
        assert isinstance(event, Debug)
        assert stub.stopped_at(0, event) == b"T05%b:50000;thread:1;" % word

    def test_one_that_is_taken_out_is_gone(self, bare: BareGuest, stub: Stub) -> None:
        ask(stub, b"Z0,%x,1" % CODE)
        assert ask(stub, b"z0,%x,1" % CODE) == b"OK"
        assert ask(stub, b"z0,%x,1" % CODE) == b"OK"
        stub.answer(b"c")
        assert not isinstance(bare.processor.run(), Debug)

    def test_nonsense(self, stub: Stub) -> None:
        assert ask(stub, b"Z5,0,1") == b""
        assert ask(stub, b"Z2,0,0") == INVALID
        assert ask(stub, b"Z0,0") == INVALID
        assert ask(stub, b"Z0,zz,1") == INVALID


class TestRunning:
    @pytest.mark.parametrize(
        "packet, how",
        [
            (b"c", Resume()),
            (b"C05", Resume()),
            (b"s", Resume(stepping=True)),
            (b"S05", Resume(stepping=True)),
            (b"vCont;c", Resume()),
            (b"vCont;C05;c", Resume()),
            (b"vCont;s:1;c", Resume(stepping=True)),
            (b"vCont;s:1", Resume(stepping=True)),
            (b"vCont;r1000,1010:1;c", Resume(stepping=True, inside=range(0x1000, 0x1010))),
            (b"vCont;c:-1", Resume()),
        ],
    )
    def test_it_goes_on(self, stub: Stub, calls: Calls, packet: bytes, how: Resume) -> None:
        assert stub.answer(packet) == []
        assert calls.told == [how]

    @pytest.mark.parametrize(
        "packet", [b"vCont", b"vCont;", b"vCont;x", b"vCont;t:1", b"vCont;c:7", b"vCont;r1", b"czz"]
    )
    def test_nonsense(self, stub: Stub, calls: Calls, packet: bytes) -> None:
        assert stub.answer(packet) == [INVALID]
        assert not calls.told

    def test_from_another_address(self, bare: BareGuest, stub: Stub, calls: Calls) -> None:
        stub.answer(b"c%x" % DATA)
        assert bare.processor.rip == DATA

    def test_without_a_machine_nothing_runs(self, calls: Calls) -> None:
        stub = Stub(calls)
        for packet in (b"c", b"s", b"g", b"m0,1", b"p0", b"vCont;c"):
            assert ask(stub, packet) in (INVALID, FAULT)
        assert not calls.told

    def test_the_end(self, stub: Stub, calls: Calls) -> None:
        assert ask(stub, b"D") == b"OK"
        assert stub.answer(b"k") == []
        assert ask(stub, b"vKill;1") == b"OK"
        assert calls.told == ["detach", "kill", "kill"]


class TestTheRest:
    def test_a_processor_is_a_thread(self, stub: Stub) -> None:
        assert ask(stub, b"qfThreadInfo") == b"m1"
        assert ask(stub, b"qsThreadInfo") == b"l"
        assert ask(stub, b"qC") == b"QC1"
        assert bytes.fromhex(ask(stub, b"qThreadExtraInfo,1").decode()) == b"virtual processor 0, ring 0"
        assert [ask(stub, packet) for packet in (b"Hg1", b"Hg0", b"Hc-1", b"T1")] == [b"OK"] * 4
        assert [ask(stub, packet) for packet in (b"Hg2", b"Hx1", b"H", b"T2", b"T", b"Tp1.1")] == [
            INVALID
        ] * 6

    def test_what_is_unknown_is_answered_by_nothing(self, stub: Stub) -> None:
        for packet in (
            b"",
            b"!",
            b"vMustReplyEmpty",
            b"qOffsets",
            b"qTStatus",
            b"A",
            b"\xff",
            b"q",
            b"v;",
            b"qL1",
        ):
            assert ask(stub, packet) == b""

    def test_monitor(self, stub: Stub) -> None:
        said, ok = stub.answer(b"qRcmd," + b"info guest".hex().encode())
        assert (said, ok) == (b"O" + b"you said info guest\n".hex().encode(), b"OK")
        *parts, ok = stub.answer(b"qRcmd," + b"much".hex().encode())
        assert len(parts) > 1
        assert b"".join(bytes.fromhex(part[1:].decode()) for part in parts) == b"you said much\n" * 5000
        assert ask(stub, b"qRcmd,zz") == INVALID

    def test_a_new_session_knows_nothing_of_the_last(self, stub: Stub) -> None:
        ask(stub, b"Z0,0,1")
        ask(stub, b"Qqemu.PhyMemMode:1")
        stub.reset()
        assert ask(stub, b"qqemu.PhyMemMode") == b"0"
        stub.points.apply(stub.processors)
        assert not stub.points.is_hardware(0)
