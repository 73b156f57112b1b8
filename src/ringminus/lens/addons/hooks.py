"""The hooks: which methods of an addon are called, and for which events."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from inspect import cleandoc

from ringminus.tap import (
    BusMessage,
    ChannelState,
    CpuidRead,
    DeviceMessage,
    Event,
    EventSignal,
    GpadlChange,
    Halt,
    Hypercall,
    Interrupt,
    MmioAccess,
    MsrAccess,
    NetworkFrame,
    PageFault,
    PortIo,
    RingPacket,
    SerialData,
    SynicMessage,
    TimerExpired,
    Violation,
    VmExit,
)


@dataclass(frozen=True, slots=True)
class Hook:
    """A method of addons. It is called with every `event` of whose `attribute` (a truth value) is `value`,
    `before` it is carried out where that matters; without an event it is called with the context alone."""

    name: str
    when: str
    event: type[Event] | None = None
    before: bool = False
    attribute: str = ""
    value: bool = True

    @property
    def changes(self) -> bool:
        """Whether it can change its event."""
        return self.event is not None and bool(self.event.MAY or self.event.SETTABLE)

    @property
    def call(self) -> str:
        """As it is written in an addon."""
        return f"{self.name}(self, event, ctx)" if self.event is not None else f"{self.name}(self, ctx)"

    @property
    def about(self) -> str:
        """What the event's declaration says of it, as paragraphs."""
        return cleandoc(self.event.__doc__ or "") if self.event is not None else ""

    @property
    def can(self) -> list[str]:
        """What can be done with the event, in words."""
        if self.event is None or not self.changes:
            return []
        words = [f"set {', '.join(self.event.SETTABLE)}"] if self.event.SETTABLE else []
        return words + sorted(self.event.MAY)


ALL = (
    Hook("start", "A guest is about to run; once more after each of its restarts."),
    Hook("stop", "The guest has ended, or restarts."),
    Hook("tick", "Every `tick_seconds` (1.0) of the guest's time."),
    Hook("packet_from_guest", "Before a device gets it.", RingPacket, attribute="to_guest", value=False),
    Hook("packet_to_guest", "Before it is put into the guest's ring.", RingPacket, attribute="to_guest"),
    Hook("device_message", "Before it is taken, or put where the guest finds it.", DeviceMessage),
    Hook("frame_from_guest", "Before the switch gets it.", NetworkFrame, attribute="to_guest", value=False),
    Hook("frame_to_guest", "Before the adapter gives it to the guest.", NetworkFrame, attribute="to_guest"),
    Hook("hypercall", "Before it is carried out.", Hypercall, before=True),
    Hook("hypercall_result", "Before the guest gets the result.", Hypercall),
    Hook("msr_write", "Before it is carried out.", MsrAccess, before=True, attribute="write"),
    Hook("msr_read", "Before the guest gets the value.", MsrAccess, attribute="write", value=False),
    Hook("vmbus_message", "Before the bus handles it, or queues it for the guest.", BusMessage),
    Hook("synic_message", "Before it is put into its slot.", SynicMessage),
    Hook("signal", "Before the flag is set.", EventSignal),
    Hook("interrupt", "Before the local APIC gets it.", Interrupt),
    Hook("timer", "Before its message or interrupt comes.", TimerExpired),
    Hook("port_write", "Before the device gets it.", PortIo, attribute="write"),
    Hook("port_read", "Before the guest gets the value.", PortIo, attribute="write", value=False),
    Hook("mmio_write", "Before the device gets it.", MmioAccess, attribute="write"),
    Hook("mmio_read", "Before the guest gets the value.", MmioAccess, attribute="write", value=False),
    Hook("cpuid", "Before the guest gets the values.", CpuidRead),
    Hook("exit", "After it was answered; nothing can be changed.", VmExit),
    Hook("channel", "After it has happened; nothing can be changed.", ChannelState),
    Hook("gpadl", "After it has happened; nothing can be changed.", GpadlChange),
    Hook("serial", "After it has happened; nothing can be changed (port_write changes bytes).", SerialData),
    Hook("halt", "After it is over; nothing can be changed.", Halt),
    Hook("page_fault", "After it has happened; nothing can be changed.", PageFault),
    Hook("violation", "After it has happened; nothing can be changed.", Violation),
)
HOOKS = {one.name: one for one in ALL}


def describe(hook: Hook, width: int = 100) -> str:
    """A hook for a person: how it is written, when it is called, what its event is and allows."""
    lines = [hook.call, f"    {hook.when}"]
    for paragraph in hook.about.split("\n\n") if hook.about else ():
        lines += ["", *textwrap.wrap(paragraph, width, initial_indent="    ", subsequent_indent="    ")]
    if hook.can:
        lines += ["", f"    event can: {'; '.join(hook.can)}"]
    return "\n".join(lines)
