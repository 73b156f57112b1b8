"""The commands of the prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ringminus.lens.breakpoints import changing, details
from ringminus.lens.breakpoints.prompt import Prompt, Usage
from ringminus.lens.breakpoints.stack import frames
from ringminus.lens.complete import complete as complete_filter

MEMORY_SHOWN = 64
MOST_MEMORY = 65536
Run = Callable[[Prompt, Sequence[str]], None]
Complete = Callable[[Prompt, str], Sequence[str]]


def _nothing(_prompt: Prompt, _text: str) -> Sequence[str]:
    return ()


def _filters(_prompt: Prompt, text: str) -> Sequence[str]:
    return [one.text for one in complete_filter(text)]


def _symbols(prompt: Prompt, text: str) -> Sequence[str]:
    before, space, last = text.rpartition(" ")
    return [f"{before}{space}{one}" for one in prompt.symbols.starting(last)] if last else ()


@dataclass(frozen=True, slots=True)
class Command:
    """`arguments` are as help shows them, `more` is what it says of this one alone. `whole` takes the rest of
    the line as it is; one that `repeats` is done again by an empty line."""

    arguments: str
    help: str
    run: Run
    complete: Complete = _nothing
    whole: bool = False
    repeats: bool = False
    more: str = ""


# ------------------------------------------------------------ looking


def _show(prompt: Prompt, words: Sequence[str]) -> None:
    event = changing.event_of(prompt)
    prompt.say(prompt.line())
    number = f"event {event.sequence}" + (f", caused by event {event.cause}" if event.cause else "")
    if event.changed:
        number += f", {event.changed}"
    prompt.say(number)
    for line in details.fields(event, prompt.decoder):
        prompt.say(line)


def _hex(prompt: Prompt, words: Sequence[str]) -> None:
    for line in details.octets(changing.event_of(prompt)):
        prompt.say(line)


def _data(prompt: Prompt, words: Sequence[str]) -> None:
    memory = changing.event_of(prompt).memory
    if memory is None:
        raise Usage("this event names no guest memory")
    offset = changing.number(words[0]) if words else 0
    length = changing.number(words[1]) if len(words) > 1 else MEMORY_SHOWN
    prompt.say(f"{memory.size} bytes of guest memory:")
    for line in details.dump(memory.read(offset, min(length, max(memory.size - offset, 0))), offset):
        prompt.say(line)


def _tree(prompt: Prompt, words: Sequence[str]) -> None:
    for line in details.causes(changing.event_of(prompt), prompt.points.recent, prompt.decoder):
        prompt.say(line)


def _last(prompt: Prompt, words: Sequence[str]) -> None:
    count = changing.number(words[0]) if words else 10
    for one in list(prompt.points.recent)[-count:]:
        prompt.say(f"{one.sequence:>6} {details.one_line(one, prompt.decoder)}")


def _registers(prompt: Prompt, words: Sequence[str]) -> None:
    found = prompt.machine.registers()
    if words:
        found = {name: found[name] for name in words if name in found}
        if len(found) < len(words):
            raise Usage(f"no such register; there are {', '.join(prompt.machine.registers())}")
    names = list(found)
    for start in range(0, len(names), 4):
        row = (f"{name:<9} {found[name]:#018x}" for name in names[start : start + 4])
        prompt.say("  ".join(row))
    if "rip" in found and prompt.symbols.name(found["rip"]):
        prompt.say(f"rip is {prompt.symbols.name(found['rip'])}")


def _memory(prompt: Prompt, words: Sequence[str]) -> None:
    _show_memory(prompt, words, physical=False)


def _physical(prompt: Prompt, words: Sequence[str]) -> None:
    _show_memory(prompt, words, physical=True)


def _show_memory(prompt: Prompt, words: Sequence[str], *, physical: bool) -> None:
    if len(words) not in (1, 2):
        raise Usage(f"{'physical' if physical else 'memory'} ADDRESS [LENGTH]")
    address = changing.address(prompt, words[0])
    length = changing.number(words[1]) if len(words) == 2 else MEMORY_SHOWN
    if not 0 < length <= MOST_MEMORY:
        raise Usage(f"1 to {MOST_MEMORY} bytes are shown, not {length}")
    data = prompt.machine.read(address, length, physical=physical)
    for line in details.dump(data, address, 16):
        prompt.say(line)
    if len(data) < length:
        prompt.say(f"nothing is mapped from {address + len(data):#x} on")


def _stack(prompt: Prompt, words: Sequence[str]) -> None:
    for frame in frames(prompt.machine, prompt.symbols):
        mark = f"at {frame.place:#x}" if frame.place else "RIP"
        prompt.say(f"{frame.address:#018x}  {frame.name:<40} {mark}".rstrip())
    if not len(prompt.symbols):
        prompt.say("names come from --symbols FILE: a vmlinux, a System.map, or the guest's /proc/kallsyms")


# ------------------------------------------------------------ going on


def _continue(prompt: Prompt, words: Sequence[str]) -> None:
    if words and prompt.point is not None:
        prompt.point.skip = max(changing.number(words[0]) - 1, 0)
    prompt.going = True


def _next(prompt: Prompt, words: Sequence[str]) -> None:
    text = words[0] if words else (prompt.point.filter.text if prompt.point is not None else "")
    prompt.points.add(text, once=True)
    prompt.going = True


def _step(prompt: Prompt, words: Sequence[str]) -> None:
    prompt.points.add("", once=True)
    prompt.going = True


def _quit(prompt: Prompt, words: Sequence[str]) -> None:
    prompt.points.delete()
    prompt.machine.end("at a breakpoint")
    prompt.going = True


# ------------------------------------------------------------ breakpoints


def _break(prompt: Prompt, words: Sequence[str]) -> None:
    if not words:
        raise Usage("break FILTER, such as: break scsi.op == write_10")
    point = prompt.points.add(words[0])
    prompt.say(f"breakpoint {point.number}: {point.text}")


def _delete(prompt: Prompt, words: Sequence[str]) -> None:
    if not words:
        prompt.points.delete()
    for word in words:
        if not prompt.points.delete(changing.number(word)):
            raise Usage(f"there is no breakpoint {word}: list shows them")


def _list(prompt: Prompt, words: Sequence[str]) -> None:
    for point in prompt.points:
        met = f"{point.hits} time{'' if point.hits == 1 else 's'}"
        prompt.say(f"{point.number:>3}  {point.text}  (met {met})")
    if not any(True for _ in prompt.points):
        prompt.say("there are no breakpoints: break FILTER makes one")


def _help(prompt: Prompt, words: Sequence[str]) -> None:
    if words:
        command = find(words[0])
        name = next(name for name, one in COMMANDS.items() if one is command)
        prompt.say(f"{name} {command.arguments}".rstrip())
        prompt.say(f"  {command.help}")
        for line in command.more.splitlines():
            prompt.say(f"  {line}")
        return
    for name, one in COMMANDS.items():
        more = f" (help {name} tells how)" if one.more else ""
        prompt.say(f"{f'{name} {one.arguments}':<36} {one.help}{more}".rstrip())
    prompt.say("Commands may be shortened; an empty line does next, step or continue once more.")


COMMANDS: dict[str, Command] = {
    "show": Command("", "the event: its fields, and the messages in it", _show),
    "hex": Command("", "the bytes that it carries", _hex),
    "data": Command("[OFFSET [LENGTH]]", "the guest memory that a packet names", _data),
    "tree": Command("", "what led to it", _tree),
    "last": Command("[COUNT]", "the events before it, of most kinds", _last),
    "continue": Command("[COUNT]", "go on, until it is met the COUNTth time", _continue, repeats=True),
    "next": Command("[FILTER]", "go on to the next such event", _next, _filters, True, True),
    "step": Command("", "go on to the next event of any kind", _step, repeats=True),
    "edit": Command("FIELD VALUE", "set a field, such as: edit scsi.lba 0", changing.edit, changing.fields),
    "drop": Command("", "nobody gets the event", changing.drop),
    "delay": Command("SECONDS", "it passes later", changing.delay),
    "duplicate": Command("[TIMES]", "it passes more than once", changing.duplicate),
    "answer": Command("[VALUE]", "answer it in the place of who would get it", changing.answer),
    "inject": Command("WHAT …", "bring in what nobody sent", changing.inject, more=changing.INJECT),
    "break": Command("FILTER", "stop at such events", _break, _filters, True),
    "delete": Command("[NUMBER …]", "take breakpoints away; without a number, all", _delete),
    "list": Command("", "the breakpoints", _list),
    "registers": Command("[NAME …]", "the processor's", _registers),
    "set": Command("REGISTER VALUE", "set a general register, RIP or RFLAGS", changing.set_register),
    "memory": Command("ADDRESS [LENGTH]", "guest memory by its page tables", _memory, _symbols),
    "physical": Command("ADDRESS [LENGTH]", "guest-physical memory", _physical),
    "write": Command("ADDRESS HEX", "change guest memory by its page tables", changing.write, _symbols),
    "stack": Command("", "where the processor is, and what may have called", _stack),
    "help": Command("[COMMAND]", "this list", _help),
    "quit": Command("", "end the guest", _quit),
}
ALIASES = {"c": "continue", "n": "next", "s": "step", "b": "break", "d": "delete", "q": "quit", "x": "memory"}
ALIASES |= {"p": "show", "bt": "stack", "?": "help"}


def find(word: str) -> Command:
    """The command of that name, or of one that begins so; raises `Usage`."""
    name = ALIASES.get(word, word)
    if name in COMMANDS:
        return COMMANDS[name]
    found = [one for one in COMMANDS if one.startswith(name)]
    if len(found) == 1:
        return COMMANDS[found[0]]
    if found:
        raise Usage(f"{word} may be {', '.join(found)}")
    raise Usage(f"there is no command {word}: help lists them")
