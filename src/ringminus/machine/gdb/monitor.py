"""The words of gdb's `monitor` command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ringminus.hypervisor.vp import VirtualProcessor
from ringminus.machine.gdb import space
from ringminus.machine.machine import Machine
from ringminus.memory import MIB

DUMP_WIDTH = 16
LARGEST_DUMP = 4096
SECOND = 10_000_000  # of reference time


class Usage(Exception):
    """The words were wrong; the message says how they are used."""


@dataclass(frozen=True, slots=True)
class Word:
    """A command: what is written after its name, what it does, and the function that does it."""

    arguments: str
    help: str
    run: Callable[[Machine, int, Sequence[str]], Iterator[str]]


def monitor(machine: Machine, index: int, text: str) -> str:
    """The answer to `monitor TEXT`; addresses are those of virtual processor `index`."""
    words = text.split()
    for length in (2, 1):
        word = WORDS.get(" ".join(words[:length]))
        if word is not None:
            try:
                lines = list(word.run(machine, index, words[length:]))
            except Usage as error:
                lines = [str(error)]
            return "".join(f"{line}\n" for line in lines)
    if not words:
        return "say monitor help\n"
    return f"no word {text.strip()!r} here: monitor help lists them\n"


def _help(_machine: Machine, _index: int, _arguments: Sequence[str]) -> Iterator[str]:
    for name, word in WORDS.items():
        yield f"{f'monitor {name} {word.arguments}':<40} {word.help}".rstrip()


def _guest(machine: Machine, _index: int, _arguments: Sequence[str]) -> Iterator[str]:
    partition, config = machine.partition, machine.config
    yield f"kernel          {config.kernel}"
    yield f"command line    {config.command_line}"
    yield f"memory          {config.memory // MIB} MiB"
    identity = partition.interface.guest_os_id
    yield f"guest OS id     {identity:#x}" if identity else "guest OS id     none yet"
    yield f"reference time  {partition.clock.reference_time() / SECOND:.6f} s; it stands still with the guest"
    exceptions = machine.engine.counters()["exceptions"]
    yield "exceptions      " + (
        " ".join(f"{vector}:{count}" for vector, count in exceptions.items()) or "none"
    )


def _processors(machine: Machine, _index: int, _arguments: Sequence[str]) -> Iterator[str]:
    for vp in machine.partition.vps:
        processor = vp.processor
        state = ", idle" if vp.idle else ""
        yield f"vp {vp.index}  RIP {processor.rip:#x}  ring {processor.cpl}{state}"
        yield f"      task priority {vp.apic.tpr:#x}  in service {_vectors(vp.apic.isr)}  {_waiting(vp)}"


def _waiting(vp: VirtualProcessor) -> str:
    """The requested interrupts. The last that was offered counts until it is known to be taken."""
    return f"requested {_vectors(vp.apic.irr)}"


def _vectors(bitmap: int) -> str:
    return " ".join(f"{vector:#x}" for vector in range(256) if bitmap >> vector & 1) or "none"


def _memory(machine: Machine, _index: int, _arguments: Sequence[str]) -> Iterator[str]:
    for region in machine.memory.regions:
        yield f"RAM  {region.gpa:#012x} to {region.gpa + region.size - 1:#012x}  {region.size // MIB} MiB"


def _bus(machine: Machine, _index: int, _arguments: Sequence[str]) -> Iterator[str]:
    version = machine.vmbus.last_version
    yield f"version {version >> 16}.{version & 0xFFFF}" if version else "the guest has not connected"
    for slot in machine.vmbus.slots():
        state = "open" if slot.channel is not None else "closed"
        name = slot.device.title + (f", channel {slot.index}" if slot.index else "")
        yield f"relid {slot.relid:<4} {state:<7} {slot.device.instance}  {name}"


def _translate(machine: Machine, index: int, arguments: Sequence[str]) -> Iterator[str]:
    if len(arguments) != 1:
        raise Usage("monitor translate ADDRESS")
    linear = _number(arguments[0])
    gpa = space.physical(machine.partition.vps[index].processor, linear)
    if gpa is None:
        yield f"{linear:#x} is not mapped"
    else:
        yield f"{linear:#x} is guest-physical {gpa:#x}" + ("" if machine.memory.is_ram(gpa) else ", no RAM")


def _physical(machine: Machine, _index: int, arguments: Sequence[str]) -> Iterator[str]:
    if len(arguments) not in (1, 2):
        raise Usage("monitor physical ADDRESS [LENGTH]")
    gpa, length = _number(arguments[0]), _number(arguments[1]) if len(arguments) == 2 else 64
    try:
        data = space.read(machine.memory, None, gpa, min(length, LARGEST_DUMP))
    except space.NotMapped:
        raise Usage(f"guest-physical {gpa:#x} is no RAM: see monitor info memory") from None
    for start in range(0, len(data), DUMP_WIDTH):
        line = data[start : start + DUMP_WIDTH]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        yield f"{gpa + start:#012x}  {line.hex(' '):<47}  {text}"


def _number(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < space.LINEAR_LIMIT:
        raise Usage(f"{text!r} is not an address: write it as 0xffffffff81000000")
    return value


WORDS = {
    "help": Word("", "this list", _help),
    "info guest": Word("", "what runs, and for how long", _guest),
    "info processors": Word("", "where they are, and their interrupts", _processors),
    "info memory": Word("", "where RAM is in guest-physical memory", _memory),
    "info vmbus": Word("", "the bus's offers and channels", _bus),
    "translate": Word("ADDRESS", "the guest-physical address of a linear one", _translate),
    "physical": Word("ADDRESS [LENGTH]", "guest-physical memory", _physical),
}
