"""The commands of the prompt that change something, and how their words are read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ringminus.lens.addons.message import Message, carried_bytes, set_carried_bytes
from ringminus.lens.breakpoints.prompt import Prompt, Usage
from ringminus.lens.fields import titles
from ringminus.tap import Event, Hypercall, MsrAccess, RingPacket

HEX = re.compile(r"[0-9a-fA-F]*")
INJECT = """inject packet DEVICE guest|host HEX [ID]      an in-band packet on its primary channel
inject completion DEVICE guest|host ID [HEX]  the completion of the other side's packet with that id
inject message guest|host HEX                 a control message of the bus, with its header
inject interrupt VECTOR                       an interrupt of the processor
inject signal FLAG [SINT]                     an event flag: a channel's is its relid"""


def event_of(prompt: Prompt) -> Event:
    """The event at which the guest stands; raises `Usage`."""
    if prompt.event is None:
        raise Usage("the guest does not stand at an event: break FILTER and continue go to one")
    return prompt.event


def changeable(prompt: Prompt) -> Event:
    """The same, if it can still be changed."""
    event = event_of(prompt)
    if event.verdict is None:
        raise Usage(f"this {event.NAME} event is over: it can only be looked at")
    return event


# ------------------------------------------------------------ words


def number(word: str) -> int:
    """A number; raises `Usage`."""
    try:
        return int(word, 0)
    except ValueError:
        raise Usage(f"{word!r} is not a number: write it as 4096 or 0x1000") from None


def address(prompt: Prompt, word: str) -> int:
    """A number, a symbol, a register, or one of them and an offset: `vmbus_isr+5`, `$rsp`."""
    name, plus, offset = word.partition("+")
    register = name.startswith("$")
    found = prompt.machine.registers().get(name[1:]) if register else prompt.symbols.address(name)
    if found is None and name[:1].isdigit():
        found = number(name)
    if found is None:
        raise Usage(f"{name} is neither an address, nor a symbol, nor a register such as $rsp")
    return found + (number(offset) if plus else 0)


def octets(words: Sequence[str]) -> bytes:
    """Bytes in hexadecimal, in one word or in several; raises `Usage`."""
    text = "".join(words).removeprefix("0x").replace(":", "")
    if not HEX.fullmatch(text) or len(text) % 2:
        raise Usage(f"{' '.join(words)} are no bytes: write them as 0011aaff")
    return bytes.fromhex(text)


def _direction(word: str) -> bool:
    """Whether it is for the guest."""
    if word not in ("guest", "host"):
        raise Usage(f"{word} is neither guest nor host, for whom it can be")
    return word == "guest"


# ------------------------------------------------------------ the event


def fields(prompt: Prompt, text: str) -> Sequence[str]:
    """The fields that can be edited."""
    if prompt.event is None or " " in text:
        return ()
    own = list(prompt.event.SETTABLE)
    for one in Message(prompt.event, prompt.decoder):
        own += [f"{one.protocol}.{name}" for name in one.fields()]
    return [one for one in own if one.startswith(text)]


def edit(prompt: Prompt, words: Sequence[str]) -> None:
    """Set a field of the event or of a message in it."""
    event = changeable(prompt)
    if len(words) < 2:
        able = ", ".join(event.SETTABLE) or "none"
        raise Usage(f"edit FIELD VALUE: fields of this event are {able}, and those of its messages")
    name, *rest = words
    own = name.removeprefix(f"{event.NAME}.")
    if own in event.SETTABLE:
        _set_own(event, own, rest)
        prompt.decoder.renew(event)
    elif "." in name:
        message = Message(event, prompt.decoder)
        message[name] = _value(message[name], rest)
    else:
        raise Usage(f"{name} cannot be set: those that can are {', '.join(event.SETTABLE)}")
    prompt.say(prompt.line())


def _set_own(event: Event, name: str, words: Sequence[str]) -> None:
    kind = event.SETTABLE[name]
    if kind is bytes:
        if getattr(event, name) == carried_bytes(event):
            set_carried_bytes(event, octets(words))
        else:
            setattr(event, name, octets(words))
    elif kind is bool:
        setattr(event, name, words[0].lower() in ("1", "yes", "true"))
    elif isinstance(kind, tuple):
        if words[0].upper() not in kind:
            raise Usage(f"{name} is one of {', '.join(kind)}")
        setattr(event, name, words[0].upper())
    else:
        value = number(words[0])
        if isinstance(kind, int) and not 0 <= value < 1 << kind:
            raise Usage(f"{name} has {kind} bits: {value:#x} does not fit")
        setattr(event, name, value)


def _value(before: object, words: Sequence[str]) -> object:
    """The words as the field has its values."""
    if isinstance(before, bytes):
        text = " ".join(words)
        return text.encode() if not HEX.fullmatch(text.replace(" ", "").removeprefix("0x")) else octets(words)
    if isinstance(before, tuple):
        return tuple(number(one) for one in " ".join(words).replace(",", " ").split())
    word = words[0]
    return number(word) if word.lstrip("-")[:1].isdigit() else word


def drop(prompt: Prompt, words: Sequence[str]) -> None:
    """Nobody gets it."""
    event_of(prompt).drop()
    prompt.say("dropped when the guest goes on")


def delay(prompt: Prompt, words: Sequence[str]) -> None:
    """It passes later."""
    try:
        seconds = float(words[0])
    except (IndexError, ValueError):
        raise Usage("delay SECONDS, such as delay 0.2") from None
    event_of(prompt).delay(seconds)
    prompt.say(f"delayed by {seconds:g} s when the guest goes on")


def duplicate(prompt: Prompt, words: Sequence[str]) -> None:
    """It passes more than once."""
    times = number(words[0]) if words else 1
    event_of(prompt).duplicate(times)
    prompt.say(f"passes {times + 1} times when the guest goes on")


def answer(prompt: Prompt, words: Sequence[str]) -> None:
    """Answer it in the place of who would get it."""
    event = event_of(prompt)
    if isinstance(event, RingPacket):
        event.answer(octets(words))
    elif isinstance(event, Hypercall):
        event.answer(number(words[0]) if words else 0)
    elif isinstance(event, MsrAccess):
        fault = bool(words) and words[0].lower() in ("#gp", "gp", "fault")
        event.answer(number(words[0]) if words and not fault else 0, fault=fault)
    else:
        raise Usage(f"a {event.NAME} event cannot be answered: packets, hypercalls and MSRs can")
    prompt.say("answered when the guest goes on")


# ------------------------------------------------------------ bringing in


def inject(prompt: Prompt, words: Sequence[str]) -> None:
    """Bring in what nobody sent."""
    machine = prompt.machine
    match list(words):
        case ["packet", device, side, *rest]:
            id_ = number(rest.pop()) if len(rest) > 1 else None
            given = _packet(prompt, device, octets(rest), id_, _direction(side), completion=False)
            prompt.say(f"injected with id {given:#x}")
        case ["completion", device, side, word, *rest]:
            _packet(prompt, device, octets(rest), number(word), _direction(side), completion=True)
        case ["message", side, *rest] if rest:
            machine.inject_message(octets(rest), to_guest=_direction(side))
        case ["interrupt", vector]:
            machine.inject_interrupt(number(vector), 0)
        case ["signal", flag, *sint]:
            machine.inject_signal(number(sint[0]) if sint else 2, number(flag), 0)
        case _:
            raise Usage(INJECT)


def _packet(
    prompt: Prompt, device: str, payload: bytes, id_: int | None, to_guest: bool, *, completion: bool
) -> int:
    there = [one for one in prompt.machine.channels() if not one.channel]
    relids = [one.relid for one in there if device in titles(one.device, one.interface)]
    if not relids and device.isdigit():
        relids = [int(device)]
    if not relids:
        names = ", ".join(one.device for one in there) or "none"
        raise Usage(f"no device {device!r} has an open channel: those that have are {names}")
    return prompt.machine.inject_packet(
        relids[0], payload, id_, to_guest=to_guest, completion=completion, done=None
    )


# ------------------------------------------------------------ the processor


def set_register(prompt: Prompt, words: Sequence[str]) -> None:
    """Set a register."""
    if len(words) != 2:
        raise Usage("set REGISTER VALUE, such as set rax 0")
    prompt.machine.set_register(words[0].lower().removeprefix("$"), address(prompt, words[1]))


def write(prompt: Prompt, words: Sequence[str]) -> None:
    """Change guest memory."""
    if len(words) < 2:
        raise Usage("write ADDRESS HEX, such as write $rsp 0000000000000000")
    data = octets(words[1:])
    prompt.machine.write(address(prompt, words[0]), data)
    prompt.say(f"{len(data)} bytes written")
