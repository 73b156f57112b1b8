"""A debugger's session with a running machine: who stops, who goes on, and what each is told."""

from __future__ import annotations

import asyncio
import re
import selectors
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from ringminus.errors import ConfigError, HostError
from ringminus.machine.config import MachineConfig
from ringminus.machine.gdb import target
from ringminus.machine.gdb.address import GdbAddress, parse_gdb
from ringminus.machine.gdb.server import GdbServer
from ringminus.machine.machine import Machine
from ringminus.machine.outcome import End, Outcome
from ringminus.machine.worker import Worker, run_on_loop
from ringminus.memory import MIB
from support.bare_metal import assemble
from support.command import KERNEL_BASE, POWER_OFF, say, write_kernel, write_msr
from support.gdb import GdbClient

T = TypeVar("T")
SVR, STIMER0_CONFIG, STIMER0_COUNT, GUEST_IDLE = 0x80F, 0x400000B0, 0x400000B1, 0x400000F0
COUNTING = "xor eax, eax; 1: inc rax; jmp 1b"
RIP = [register.name for register in target.REGISTERS].index("rip")
RAX = 0
BY_GDB = Outcome(End.INTERRUPTED, "by gdb")

Session = Callable[..., tuple[Outcome, T]]


@pytest.fixture
def session(tmp_path: Path) -> Session[T]:
    """Runs a guest and, on another thread, `scenario(client)`; gives how the guest ended, and its result."""

    def run(source: str, scenario: Callable[[GdbClient], T], *, waits: bool = True) -> tuple[Outcome, T]:
        machine = Machine(MachineConfig(write_kernel(tmp_path, source), memory=64 * MIB), lambda _: None)
        path = tmp_path / "gdb"

        def play() -> T:
            client = GdbClient(path)
            try:
                return scenario(client)
            finally:
                client.close()

        async def main(selector: selectors.BaseSelector) -> tuple[Outcome, T]:
            worker = Worker(machine, selector)
            loop = asyncio.get_running_loop()
            server = GdbServer(GdbAddress(path=path), waits=waits, kill=lambda: worker.end(BY_GDB))
            await server.open()
            server.attach(worker)
            loop.call_later(20, worker.end, Outcome(End.TIMEOUT))
            playing = loop.run_in_executor(None, play)
            outcome = await worker.run()
            server.detach_worker()
            await server.close(outcome)
            return outcome, await playing

        try:
            return run_on_loop(main)
        finally:
            machine.close()

    return run


def after(source: str) -> int:
    return KERNEL_BASE + len(assemble(source))


def register(client: GdbClient, number: int) -> int:
    return int.from_bytes(bytes.fromhex(client.ask(b"p%x" % number).decode()), "little")


def monitor(client: GdbClient, words: str) -> str:
    said = client.ask(b"qRcmd," + words.encode().hex().encode())
    assert client.receive() == b"OK"
    return bytes.fromhex(said[1:].decode()).decode()


def test_the_guest_waits_for_gdb(session: Session[int]) -> None:
    def scenario(client: GdbClient) -> int:
        time.sleep(0.05)
        assert client.ask(b"?") == b"T05thread:1;"
        rip = register(client, RIP)
        client.send(b"c")
        assert client.receive() == b"W00"
        return rip

    assert session(POWER_OFF, scenario) == (Outcome(End.POWER_OFF), KERNEL_BASE)


def test_who_comes_later_finds_the_guest_stopped_and_may_interrupt_it(session: Session[list[int]]) -> None:
    def scenario(client: GdbClient) -> list[int]:
        counts = []
        for _ in range(3):
            client.ask(b"?")
            counts += [register(client, RAX), register(client, RAX)]
            client.send(b"vCont;c:-1")
            time.sleep(0.01)
            client.interrupt()
            assert client.receive() == b"T02thread:1;"
        client.send(b"k")
        return counts

    outcome, counts = session(COUNTING, scenario, waits=False)
    assert outcome == BY_GDB
    assert counts[0::2] == counts[1::2]
    assert counts[0] < counts[2] < counts[4]


def test_a_breakpoint_and_steps(session: Session[list[int]]) -> None:
    def scenario(client: GdbClient) -> list[int]:
        client.ask(b"qSupported:swbreak+")
        client.ask(b"Z0,%x,1" % after("xor eax, eax; inc rax"))
        seen = []
        for _ in range(3):
            client.send(b"c")
            assert client.receive() == b"T05swbreak:;thread:1;"
            seen.append(register(client, RAX))
            client.send(b"vCont;s:1")
            assert client.receive() == b"T05thread:1;"
            seen.append(register(client, RIP))
        client.send(b"k")
        return seen

    loop = after("xor eax, eax")
    assert session(COUNTING, scenario) == (BY_GDB, [1, loop, 2, loop, 3, loop])


def test_steps_to_the_end_of_a_line(session: Session[int]) -> None:
    head = "mov ecx, 300; 1: dec ecx; jnz 1b;"

    def scenario(client: GdbClient) -> int:
        client.send(b"vCont;r%x,%x:1" % (KERNEL_BASE, after(head)))
        assert client.receive() == b"T05thread:1;"
        rip = register(client, RIP)
        client.send(b"k")
        return rip

    assert session(f"{head} 2: jmp 2b", scenario) == (BY_GDB, after(head))


def test_a_guest_that_is_let_go_runs_on(session: Session[None]) -> None:
    def scenario(client: GdbClient) -> None:
        client.ask(b"Z0,%x,1" % KERNEL_BASE)
        assert client.ask(b"D") == b"OK"

    assert session(POWER_OFF, scenario) == (Outcome(End.POWER_OFF), None)


def test_a_gdb_that_disappears_lets_the_guest_go_on(session: Session[None]) -> None:
    # a breakpoint in every round of the loop would end the guest's run if it stayed
    source = f"mov ecx, 100000; 1: dec ecx; jnz 1b; {POWER_OFF}"

    def scenario(client: GdbClient) -> None:
        client.ask(b"Z0,%x,1" % after("mov ecx, 100000"))
        client.send(b"c")
        client.receive()

    assert session(source, scenario) == (Outcome(End.POWER_OFF), None)


def test_the_next_gdb_begins_anew_and_one_at_a_time_is_served(session: Session[None], tmp_path: Path) -> None:
    def scenario(client: GdbClient) -> None:
        client.ask(b"Z0,%x,1" % after("xor eax, eax"))
        late = GdbClient(tmp_path / "gdb")
        with pytest.raises((EOFError, ConnectionError)):
            late.receive()
        assert client.ask(b"QStartNoAckMode") == b"OK"
        client.close()
        time.sleep(0.05)
        again = GdbClient(tmp_path / "gdb")
        again.ask(b"?")
        again.send(b"c")
        time.sleep(0.05)
        again.interrupt()
        assert again.receive() == b"T02thread:1;"
        again.send(b"k")
        with pytest.raises((EOFError, ConnectionError)):
            while again.receive():
                pass

    assert session(COUNTING, scenario)[0] == BY_GDB


def test_a_triple_fault_can_be_looked_at(session: Session[int]) -> None:
    def scenario(client: GdbClient) -> int:
        client.send(b"c")
        assert bytes.fromhex(client.receive()[1:].decode()) == b"triple fault at RIP 0x100001\n"
        assert client.receive() == b"T0bthread:1;"
        rip = register(client, RIP)
        client.send(b"c")
        assert client.receive() == b"X0b"
        return rip

    outcome, rip = session("nop; ud2", scenario)
    assert (outcome.end, rip) == (End.TRIPLE_FAULT, KERNEL_BASE + 1)


def test_a_look_ends_with_its_gdb(session: Session[None]) -> None:
    def scenario(client: GdbClient) -> None:
        client.send(b"c")
        client.receive()
        assert client.receive() == b"T06thread:1;"  # it halted for ever

    assert session("cli; hlt", scenario)[0].end is End.CRASH


def test_time_stands_still_while_the_guest_does(session: Session[list[str]]) -> None:
    def scenario(client: GdbClient) -> list[str]:
        said = []
        for _ in range(2):
            said.append(monitor(client, "info guest"))
            time.sleep(0.05)
            said.append(monitor(client, "info guest"))
            client.send(b"s")
            client.receive()
        client.send(b"k")
        return said

    _, said = session(COUNTING, scenario)
    times = [float(found) for text in said for found in re.findall(r"reference time  ([0-9.]+) s", text)]
    assert times[0] == times[1] < times[2] == times[3]


def test_a_step_over_hlt_waits_for_the_interrupt(session: Session[list[int]]) -> None:
    setup = (
        f"{write_msr(SVR, 0x1FF)}; {write_msr(STIMER0_CONFIG, 1 | 1 << 3 | 1 << 12 | 0x40 << 4)};"
        f"{write_msr(STIMER0_COUNT, 100_000)};"
    )
    source = f"{setup} sti; hlt; nop; 1: jmp 1b"

    def scenario(client: GdbClient) -> list[int]:
        client.ask(b"Z0,%x,1" % after(f"{setup} sti"))
        client.send(b"c")
        client.receive()
        seen = [register(client, RIP)]
        for _ in range(2):
            client.send(b"s")
            assert client.receive() == b"T05thread:1;"
            seen.append(register(client, RIP))
        client.send(b"k")
        return seen

    at = after(f"{setup} sti")
    assert session(source, scenario) == (BY_GDB, [at, at + 1, at + 2])


def test_an_idle_guest_can_be_interrupted(session: Session[int]) -> None:
    source = f"sti; mov ecx, {GUEST_IDLE}; rdmsr; 1: jmp 1b"

    def scenario(client: GdbClient) -> int:
        client.send(b"c")
        time.sleep(0.05)
        client.interrupt()
        assert client.receive() == b"T02thread:1;"
        rip = register(client, RIP)
        client.send(b"k")
        return rip

    assert session(source, scenario) == (BY_GDB, after(f"sti; mov ecx, {GUEST_IDLE}; rdmsr"))


def test_the_monitors_words(session: Session[dict[str, str]]) -> None:
    words = (
        *("help", "info guest", "info processors", "info memory", "info vmbus", "translate 0x100000"),
        *(
            "translate 0x7f0000000000",
            "translate x",
            "physical 0x100000 3",
            "physical 0xfee00000",
            "what is",
            "",
        ),
    )

    def scenario(client: GdbClient) -> dict[str, str]:
        said = {each: monitor(client, each) for each in words}
        client.send(b"k")
        return said

    _, said = session("hlt", scenario)
    for name in ("info guest", "translate ADDRESS", "physical ADDRESS [LENGTH]"):
        assert f"monitor {name}" in said["help"]
    assert re.search(r"^memory +64 MiB$", said["info guest"], re.M)
    assert said["info processors"].startswith("vp 0  RIP 0x100000  ring 0\n")
    assert said["info memory"] == "RAM  0x0000000000 to 0x0003ffffff  64 MiB\n"
    assert said["info vmbus"] == "the guest has not connected\n"
    assert said["translate 0x100000"] == "0x100000 is guest-physical 0x100000\n"
    assert said["translate 0x7f0000000000"] == "0x7f0000000000 is not mapped\n"
    assert "write it as 0x" in said["translate x"]
    assert said["physical 0x100000 3"].startswith("0x0000100000  f4 00 00")
    assert "no RAM" in said["physical 0xfee00000"]
    assert "monitor help" in said["what is"] and "monitor help" in said[""]


def test_many_packets_at_once_and_nonsense_between(session: Session[bytes]) -> None:
    def scenario(client: GdbClient) -> bytes:
        client.socket.sendall(b"+++$g#00--$qC#b4$" + b"\xff" * 100 + b"$?#3f$m0,1#00")
        answers = [client.receive(), client.receive()]
        client.send(b"k")
        return b" ".join(answers)

    assert session(f"{say('x')}\n1: jmp 1b", scenario) == (BY_GDB, b"QC1 T05thread:1;")


class TestAddresses:
    def test_ports_hosts_and_paths(self) -> None:
        assert parse_gdb(":1234") == GdbAddress("127.0.0.1", 1234)
        assert parse_gdb("tcp::1234") == GdbAddress("127.0.0.1", 1234)
        assert parse_gdb("0.0.0.0:0") == GdbAddress("0.0.0.0", 0)
        assert parse_gdb("[::1]:99") == GdbAddress("::1", 99)
        assert parse_gdb("unix:/tmp/x:y") == GdbAddress(path=Path("/tmp/x:y"))

    @pytest.mark.parametrize("text", ["", "1234", ":", ":x", ":70000", "host:", "unix:", ":-1", ":１"])
    def test_nonsense_is_told_what_to_say(self, text: str) -> None:
        with pytest.raises(ConfigError, match="--gdb :1234"):
            parse_gdb(text)

    def test_a_place_that_cannot_be_had_is_the_hosts_failure(self, tmp_path: Path) -> None:
        async def main(_: selectors.BaseSelector) -> None:
            server = GdbServer(GdbAddress(path=tmp_path / "no" / "such"), waits=False, kill=lambda: None)
            with pytest.raises(HostError, match="cannot listen for gdb on"):
                await server.open()

        run_on_loop(main)
