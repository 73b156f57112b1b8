"""A guest and a host of the bus as a script, played against the real control plane.

    >> INITIATE_CONTACT version=5.3            what the guest posts
    << Connected version=5.3                   an action of the control plane,
    << VERSION_RESPONSE version_supported=1    or a message to the guest
    -- offer disk                              what the host does: offer, subchannel, rescind, accept, refuse
    !! unknown relid                           what was refused, with or without an answer

After each step all that follows from it must be there, in order; of each, the fields that are written.
Fields that a message leaves out are 0. `>> GPADL` is a header with all its bodies.
"""

from __future__ import annotations

import shlex
import struct
from collections import Counter
from dataclasses import fields as dataclass_fields
from typing import Any
from uuid import UUID, uuid5

from ringminus.memory import MIB, GuestMemory
from ringminus.vmbus.control.actions import Action, Send
from ringminus.vmbus.control.messages import MESSAGES, NAMED
from ringminus.vmbus.control.offers import Offer, OfferKey
from ringminus.vmbus.control.plane import ControlPlane, VmBusError
from ringminus.vmbus.wire import (
    PAYLOAD_LIMIT,
    ChannelFlag,
    ConnectionState,
    GpadlHeader,
    MessageHeader,
    PipeMode,
    Status,
    Version,
)
from ringminus.wire import Bytes, Struct

RAM = 64 * MIB
MEMORY = GuestMemory(RAM)
NAMES = UUID("7d2c1ed4-7b5c-4f0e-9b4e-1a2b3c4d5e6f")
WORDS = {**Status.__members__, **ConnectionState.__members__, "none": None, "yes": True, "no": False}
BODY_WORDS = (PAYLOAD_LIMIT - 16) // 8


def guid(name: str) -> UUID:
    """The GUID that a name stands for in scripts."""
    return uuid5(NAMES, name)


def value(text: str) -> Any:
    """5.3 is a version, a word is a constant or a name."""
    if text in WORDS:
        return WORDS[text]
    if "." in text:
        major, minor = text.split(".")
        return int(major) << 16 | int(minor)
    try:
        return int(text, 0)
    except ValueError:
        return guid(text)


def numbers(text: str) -> list[int]:
    """`1,5-7` is 1, 5, 6, 7."""
    ends = [[int(end, 0) for end in part.split("-")] for part in text.split(",") if part]
    return [number for pair in ends for number in range(pair[0], pair[-1] + 1)]


def described(given: dict[str, str]) -> tuple[bytes, int, int]:
    """The words of a GPADL, and what its header says of their bytes and ranges."""
    words, count = b"", 0
    if "pages" in given:
        pages = numbers(given.pop("pages"))
        words, count = struct.pack(f"<II{len(pages)}Q", 4096 * len(pages), 0, *pages), 1
    for one in given.pop("ranges", "").split(";"):
        if one:
            span, pages_text = one.split(":")
            size, offset = (int(number, 0) for number in span.split("@"))
            pages = numbers(pages_text)
            words, count = words + struct.pack(f"<II{len(pages)}Q", size, offset, *pages), count + 1
    return words, int(given.pop("range_buflen", str(len(words))), 0), int(given.pop("count", str(count)), 0)


def flat(message: Struct) -> dict[str, Any]:
    """A structure's fields, with those of structures within."""
    found: dict[str, Any] = {}
    for field in message.FIELDS:
        inner = getattr(message, field.name)
        found |= flat(inner) if isinstance(inner, Struct) else {field.name: inner}
    return found


class Script:
    """Plays scripts. Offers have names; a sub-channel's is `disk.1`. RAM is 64 MiB."""

    def __init__(self, control: ControlPlane | None = None) -> None:
        self.control = ControlPlane(MEMORY.is_ram, 4) if control is None else control
        self.keys: dict[str, OfferKey] = {}
        self._counted = Counter(self.control.refusals)

    def play(self, text: str) -> Script:
        """Play, and raise AssertionError where it comes out otherwise."""
        lines = [line.split("#")[0].strip() for line in text.splitlines()]
        steps: list[tuple[str, list[str]]] = []
        for line in filter(None, lines):
            if line[:2] in (">>", "--"):
                steps.append((line, []))
            else:
                steps[-1][1].append(line)
        for line, expected in steps:
            self._check(line, expected, self._step(line))
        return self

    def _step(self, line: str) -> list[Action]:
        word, *rest = shlex.split(line[2:])
        given = dict(part.split("=", 1) for part in rest if "=" in part)
        plain = [part for part in rest if "=" not in part]
        if line.startswith("--"):
            return self._host(word, plain, given)
        actions: list[Action] = []
        for payload in self.payloads(word, given):
            try:
                actions += self.control.receive(payload)
            except VmBusError:
                break
        return actions

    def _host(self, word: str, plain: list[str], given: dict[str, str]) -> list[Action]:
        control, name = self.control, plain[0]
        if word == "offer":
            read: dict[str, Any] = {key: int(text, 0) for key, text in given.items()}
            if "pipe_mode" in read:
                read["pipe_mode"] = PipeMode(read["pipe_mode"])
            read["flags"] = ChannelFlag(read.get("flags", 0))
            self.keys[name], actions = control.offer(Offer(guid("interface"), guid(name), **read))
            return actions
        if word == "subchannel":
            key, actions = control.offer_subchannel(self.keys[name], int(plain[1]))
            self.keys[f"{name}.{plain[1]}"] = key
            return actions
        if word == "rescind":
            return control.rescind(self.keys[name])
        return control.open_result(self.keys[name], {"accept": True, "refuse": False}[word])

    # ------------------------------------------------------------ messages

    def payloads(self, name: str, given: dict[str, str]) -> list[bytes]:
        """The messages that a line stands for."""
        if name == "GPADL":
            tail, size, count = described(given)
            made = [
                self._payload("GPADL_HEADER", given | {"range_buflen": str(size), "rangecount": str(count)})
            ]
            room = (PAYLOAD_LIMIT - GpadlHeader.SIZE) // 8 * 8
            made[0] += tail[:room]
            body = self._payload("GPADL_BODY", {"gpadl": given["gpadl"]})
            step = BODY_WORDS * 8
            return made + [body + tail[at : at + step] for at in range(room, len(tail), step)]
        tail = b""
        if name == "GPADL_HEADER":
            tail, size, count = described(given)
            given |= {"range_buflen": str(size), "rangecount": str(count)}
        elif name == "GPADL_BODY":
            pages = numbers(given.pop("pages", ""))
            tail = struct.pack(f"<{len(pages)}Q", *pages)
        elif name == "INITIATE_CONTACT":
            given = _contact(given)
        return [self._payload(name, given) + tail]

    def _payload(self, name: str, given: dict[str, str]) -> bytes:
        kind, control = NAMED[name], self.control
        allowed = [form for form in kind.forms if form.allowed(control.version or 0, control.features)]
        forms = allowed or list(kind.forms[-1:])
        structure = next(
            (
                form.structure
                for form in forms[:-1]
                if not form.by_size or form.structure.FIELDS[-1].name in given
            ),
            forms[-1].structure,
        )
        filled: dict[str, Any] = {"header": MessageHeader(msgtype=kind.number)}
        for field in structure.FIELDS[1:]:
            read = value(given.pop(field.name, "0"))
            if isinstance(field.kind, Bytes):
                read = read.bytes_le if isinstance(read, UUID) else bytes(field.size)
            filled[field.name] = read
        assert not given, f"{name} has no {', '.join(given)}"
        return structure(**filled).pack()

    # ------------------------------------------------------------ outcomes

    def _check(self, line: str, expected: list[str], actions: list[Action]) -> None:
        refused = list((self.control.refusals - self._counted).elements())
        self._counted = Counter(self.control.refusals)
        seen = [self._seen(action) for action in actions]
        wanted_refusals = [text[2:].strip() for text in expected if text.startswith("!!")]
        wanted = [text[2:].strip() for text in expected if text.startswith("<<")]
        shown = "\n".join([f"!! {reason}" for reason in refused] + [f"<< {_shown(one)}" for one in seen])
        assert refused == wanted_refusals, f"{line}\n{shown}"
        assert len(seen) == len(wanted), f"{line}\n{shown}"
        for text, one in zip(wanted, seen, strict=True):
            assert _matches(text, one), f"{line}\nwanted << {text}\n{shown}"

    def _seen(self, action: Action) -> dict[str, Any]:
        if isinstance(action, Send):
            kind = MESSAGES[MessageHeader.unpack(action.payload).msgtype]
            form = next(form for form in kind.forms if len(action.payload) == form.structure.SIZE)
            seen = {"": kind.name, **flat(form.structure.unpack(action.payload))}
            if action.target is not None:
                seen |= {"to_vp": action.target.vp, "to_sint": action.target.sint}
            return seen
        seen = {"": type(action).__name__}
        for field in dataclass_fields(action):
            inner = getattr(action, field.name)
            if field.name == "request":
                seen |= {one.name: getattr(inner, one.name) for one in dataclass_fields(inner)}
                seen["gpadl"] = inner.gpadl.handle
            else:
                seen[field.name] = inner
        if "offer" in seen:
            seen["offer"] = next(name for name, key in self.keys.items() if key == seen["offer"])
        return seen


def _contact(given: dict[str, str]) -> dict[str, str]:
    """`version`, `vp`, and what lies in the word of the interrupt page."""
    given = dict(given)
    version = value(given.pop("version"))
    sint = int(given.pop("sint", "2" if version >= Version.WIN10_V5 else "0"))
    vtl, features = int(given.pop("vtl", "0")), int(given.pop("features", "0"), 0)
    given |= {"vmbus_version_requested": str(version), "target_vcpu": given.pop("vp", "0")}
    return given | {"interrupt_page": str(sint | vtl << 8 | features << 32)}


def _matches(text: str, seen: dict[str, Any]) -> bool:
    word, *rest = shlex.split(text)
    if word != seen[""]:
        return False
    for part in rest:
        name, _, wanted = part.rpartition("=")
        there = seen.get(name or "offer")
        if not name:
            if there != wanted:
                return False
            continue
        read = value(wanted)
        if isinstance(read, UUID) and isinstance(there, bytes):
            read = read.bytes_le
        if name not in seen or read != there:
            return False
    return True


def _shown(seen: dict[str, Any]) -> str:
    rest = " ".join(f"{name}={inner}" for name, inner in seen.items() if name and name != "msgtype")
    return f"{seen['']} {rest}"


def connected(version: str = "5.3", *, features: int = 0, offers: tuple[str, ...] = ("disk",)) -> Script:
    """A script whose guest has connected and got its offers: relids are 1, 2, … in order."""
    script = Script()
    for name in offers:
        script.keys[name], _ = script.control.offer(Offer(guid("interface"), guid(name)))
    contact = {"version": version, "features": str(features)}
    if features & 8:
        contact["client_id"] = "client"
    for name, given in (("INITIATE_CONTACT", contact), ("REQUEST_OFFERS", {})):
        for payload in script.payloads(name, given):
            script.control.receive(payload)
    return script


def opened(version: str = "5.3", *, features: int = 0, offers: tuple[str, ...] = ("disk",)) -> Script:
    """The same, with the first offer open: relid 1, ring GPADL 0x10 of pages 100-107."""
    script = connected(version, features=features, offers=offers)
    script.play(
        f"""
        >> GPADL child_relid=1 gpadl=0x10 pages=100-107
        << GpadlCreated {offers[0]} handle=0x10
        << GPADL_CREATED child_relid=1 gpadl=0x10 creation_status=0
        >> OPEN_CHANNEL child_relid=1 openid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        << OpenRequested {offers[0]} gpadl=0x10
        -- accept {offers[0]}
        << OPEN_CHANNEL_RESULT child_relid=1 openid=1 status=0
        """
    )
    return script
