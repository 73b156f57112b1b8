"""gdb itself debugs guests: what it finds is what the guest says of itself, and the guest goes on unhurt."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringminus.memory import MIB
from support.bare_metal import assemble
from support.command import KERNEL_BASE, POWER_OFF, RESET, command, kernel_words, say, write_kernel
from support.gdb import run_gdb, wait_for

SYMBOLS = ("start_kernel", "_text", "linux_banner", "jiffies", "vmbus_isr", "hv_pkt_iter_first")
FOR_EVER = "7: jmp 7b"
# tells where the kernel's symbols are, then uses the bus until a line is typed
WORK = f"""
grep -E ' ({"|".join(SYMBOLS)})([[:space:]]|$)' /proc/kallsyms
echo == ready
until read -t 1 line; do dd if=/dev/sda of=/dev/null bs=4k count=16 iflag=direct 2>/dev/null; done
dmesg | grep -iE 'lockup|rcu.*stall|WARNING:|BUG:' && exit 9
echo == done
"""


class Guest:
    """A running `ringminus run --gdb`; `target` is what gdb connects to."""

    def __init__(self, process: subprocess.Popen[bytes], target: Path, output: Path) -> None:
        self.process = process
        self.target = target
        self._output = output
        wait_for(target)

    @property
    def printed(self) -> str:
        return self._output.read_bytes().decode(errors="replace").replace("\r", "")

    def gdb(self, script: str) -> str:
        """What gdb prints that attaches and runs `script`."""
        return run_gdb(f"target remote {self.target}\n{script}")

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 90
        while text not in self.printed:
            assert time.monotonic() < deadline and self.process.poll() is None, self.printed
            time.sleep(0.05)

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def end(self) -> int:
        """The exit status."""
        return self.process.wait(60)


Start = Callable[..., Guest]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def run(*options: str | Path) -> Guest:
            target, output = tmp_path / "gdb.socket", tmp_path / "output"
            log = stack.enter_context(output.open("wb"))
            arguments = command("run", *options, "--gdb", f"unix:{target}", "--timeout", "150")
            process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return Guest(process, target, output)

        yield run


@pytest.fixture
def linux(start: Start, guest_options: list[str], tmp_path: Path) -> Callable[..., Guest]:
    """Linux with a disk, at work."""

    def run(*options: str) -> Guest:
        disk = tmp_path / "disk.raw"
        disk.write_bytes(bytes(4 * MIB))
        return start(*guest_options, "--disk", disk, "--append", kernel_words(WORK, "quiet"), *options)

    return run


def addresses(guest: Guest) -> dict[str, int]:
    found = re.findall(r"^([0-9a-f]{16}) \w (\w+)", guest.printed, re.M)
    return {name: int(value, 16) for value, name in found}


def registers(printed: str) -> dict[str, int]:
    return {name: int(value, 16) for name, value in re.findall(r"^(\w+) +0x([0-9a-f]+)", printed, re.M)}


def test_a_kernel_at_work(linux: Callable[..., Guest]) -> None:
    guest = linux()
    guest.wait_for("== ready")
    at = addresses(guest)
    assert set(SYMBOLS) <= set(at)
    printed = guest.gdb(f"""
        info threads
        info registers
        x/s {at["linux_banner"]:#x}
        print "interrupt"
        hbreak *{at["vmbus_isr"]:#x}
        continue
        print $rip == {at["vmbus_isr"]:#x}
        delete
        print "exported"
        break *{at["hv_pkt_iter_first"]:#x}
        continue
        continue
        print $rip == {at["hv_pkt_iter_first"]:#x}
        x/2i $rip
        stepi
        x/i $rip
        delete
        print "watch"
        watch *(unsigned long *) {at["jiffies"]:#x}
        continue
        delete
        print "read"
        rwatch *(unsigned long *) {at["jiffies"]:#x}
        continue
        delete
        print $xmm0
        monitor info vmbus
        monitor translate {at["_text"]:#x}
        maintenance packet Qqemu.PhyMemMode:1
        x/2xw 0x1000000
        maintenance packet Qqemu.PhyMemMode:0
        x/2xw {at["_text"]:#x}
        detach
    """)
    assert "Thread 1 (virtual processor 0, ring" in printed
    seen = registers(printed)
    assert seen["rip"] >> 47 == 0x1FFFF or seen["cs"] & 3 == 3
    assert (seen["efer"] & 0xD01, seen["cr0"] & 0x80000001) == (0xD01, 0x80000001)
    assert seen["gs_base"] >> 47 == 0x1FFFF or seen["k_gs_base"] >> 47 == 0x1FFFF
    assert re.search(r'"Linux version \d', printed)
    interrupt, exported = printed.split('"interrupt"')[1].split('"exported"')
    assert "Breakpoint 1, " in interrupt and " = 1\n" in interrupt
    assert exported.count("Breakpoint 2, ") == 2 and " = 1\n" in exported
    first, second, stepped = re.findall(r"^(?:=>|  ) 0x([0-9a-f]+):", exported, re.M)
    assert int(first, 16) == at["hv_pkt_iter_first"]
    assert second == stepped
    written, read = printed.split('"watch"')[1].split('"read"')
    old, new = (int(value) for value in re.findall(r"^(?:Old|New) value = (\d+)", written, re.M))
    assert new > old
    assert "Hardware read watchpoint 4: " in read and "Value = " in read
    assert "v2_double" in printed
    assert re.search(r"^relid \d+ +open .*SCSI", printed, re.M), printed
    assert "is guest-physical 0x1000000\n" in printed
    physical, linear = re.findall(r"^0x\w*1000000:\t(.*)$", printed, re.M)[-2:]
    assert physical == linear
    assert "detached" in printed.lower()
    guest.type("go on\n")
    assert guest.end() == 0, guest.printed
    assert "== done" in guest.printed


def test_from_the_first_instruction_to_a_module_that_is_not_there_yet(
    linux: Callable[..., Guest],
) -> None:
    guest = linux()
    guest.wait_for("== ready")
    at = addresses(guest)
    guest.process.send_signal(signal.SIGKILL)
    guest.process.wait()
    guest.target.unlink()
    guest = linux("--gdb-wait", "--console", "stdio")
    printed = guest.gdb(f"""
        print $rip
        break *{at["start_kernel"]:#x}
        break *{at["vmbus_isr"]:#x}
        continue
        x/i $rip
        continue
        x/i $rip
        kill
    """)
    hits = re.findall(r"^=> 0x([0-9a-f]+)", printed, re.M)
    assert [int(hit, 16) for hit in hits] == [at["start_kernel"], at["vmbus_isr"]]
    assert guest.end() == 130
    assert "interrupted by gdb" in guest.printed


def bare(start: Start, tmp_path: Path, source: str, *options: str) -> Guest:
    return start("-k", write_kernel(tmp_path, source), "-m", "64M", "--gdb-wait", *options)


def after(source: str) -> int:
    return KERNEL_BASE + len(assemble(source))


def test_gdb_takes_the_description_and_sets_registers(start: Start, tmp_path: Path) -> None:
    guest = bare(start, tmp_path, FOR_EVER)
    printed = guest.gdb("""
        set $rax = 0x1122334455667788
        set $xmm1.uint128 = 0x99
        set $fs_base = 0x1000
        set $k_gs_base = 0x2000
        set $st0 = 1.5
        info registers rax fs_base k_gs_base cr0 cr4 efer eflags idt_base mxcsr
        print $xmm1
        print $st0
        info all-registers
        kill
    """)
    seen = registers(printed)
    assert (seen["rax"], seen["fs_base"], seen["k_gs_base"]) == (0x1122334455667788, 0x1000, 0x2000)
    assert re.search(r"^cr0 +0x\w+ +\[ PE .*PG \]", printed, re.M)
    assert re.search(r"^efer +0x\w+ +\[ .*LME LMA", printed, re.M)
    assert "uint128 = 153}" in printed
    assert "$2 = 1.5" in printed
    assert "warning" not in printed.replace("warning: No executable", "")
    assert guest.end() == 130


def test_gdb_is_told_that_the_guest_has_ended(start: Start, tmp_path: Path) -> None:
    guest = bare(start, tmp_path, POWER_OFF)
    assert "[Inferior 1 (Remote target) exited normally]" in guest.gdb("continue")
    assert guest.end() == 0


def test_gdb_may_look_at_a_triple_fault(start: Start, tmp_path: Path) -> None:
    guest = bare(start, tmp_path, "mov ebx, 77; ud2")
    printed = guest.gdb("continue\ninfo registers rip rbx\ncontinue")
    assert "triple fault at RIP 0x100005" in printed
    assert "received signal SIGSEGV" in printed
    assert registers(printed) == {"rip": 0x100005, "rbx": 77}
    assert "Program terminated with signal SIGSEGV" in printed
    assert guest.end() == 4


def test_a_breakpoint_holds_over_a_restart(start: Start, tmp_path: Path) -> None:
    guest = bare(start, tmp_path, f"nop; {RESET}")
    printed = guest.gdb("break *0x100001\n" + "continue\n" * 3 + "kill")
    assert printed.count("Breakpoint 1, ") == 3
    assert guest.end() == 130


def test_a_gdb_that_is_killed_lets_the_guest_go_on(start: Start, tmp_path: Path) -> None:
    guest = bare(start, tmp_path, f"mov ecx, 100; 1: dec ecx; jnz 1b\n{say('through')}\n{POWER_OFF}")
    printed = guest.gdb(f"break *{after('mov ecx, 100'):#x}\ncontinue\ncontinue\nshell kill -9 $PPID")
    assert printed.count("Breakpoint 1, ") == 2
    assert guest.end() == 0
    assert "through" in guest.printed


def test_the_console_and_gdb_hold_the_guest_apart(start: Start, tmp_path: Path) -> None:
    # more than the console's reader takes at once is printed while gdb stops the guest again and again
    lines = 2000
    source = f"mov ebx, {lines}\n1: {say('0123456789abcdef' + chr(10))}\ndec ebx; jnz 1b\n{POWER_OFF}"
    guest = bare(start, tmp_path, source)
    where = after(source.split("dec ebx")[0])
    printed = guest.gdb(f"break *{where:#x}\n" + "continue\n" * 20 + "delete\ncontinue")
    assert printed.count("Breakpoint 1, ") == 20
    assert guest.end() == 0
    assert guest.printed.count("0123456789abcdef\n") == lines


def test_a_wrong_wish_is_told(tmp_path: Path) -> None:
    kernel = write_kernel(tmp_path, POWER_OFF)
    for options, said in (
        (["--gdb-wait"], "--gdb-wait without --gdb"),
        (["--gdb", "1234"], "say :PORT, HOST:PORT or unix:PATH"),
    ):
        ended = subprocess.run(
            command("run", "-k", kernel, *options), capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 2
        assert said in ended.stderr


def test_symbols_from_the_guests_own_list(tmp_path: Path) -> None:
    kallsyms = (
        "ffffffff81000000 T _text\r\nffffffff81a114f0 T schedule\r\nffffffff82a0c000 D jiffies\r\n"
        "0000000000000000 A fixed_percpu_data\nffffffffc02032f0 t vmbus_isr\t[hv_vmbus]\n== noise ==\n"
        "ffffffffc02040f0 t vmbus_isr\t[other]\nffffffff81a11500 t __pfx_.part$0\n"
    )
    symbols = tmp_path / "kernel.sym"
    tool = Path(__file__).parents[2] / "tools" / "kernel-symbols"
    subprocess.run([tool, symbols], input=kallsyms.encode(), check=True)
    printed = run_gdb(f"""
        add-symbol-file {symbols} -s .kernel 0xffffffff81000000
        info symbol 0xffffffff81a114f3
        break vmbus_isr
        print &jiffies
    """)
    assert "schedule + 3 in section .kernel" in printed
    assert "Breakpoint 1 at 0xffffffffc02032f0" in printed
    assert "0xffffffff82a0c000 <jiffies>" in printed
