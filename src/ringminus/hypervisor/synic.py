"""The synthetic interrupt controller of one virtual processor (TLFS, inter-partition-communication.md).

A message for a SINT is copied to the SINT's slot of the SIM page when that is empty; otherwise it waits in
the SINT's queue, the slot's pending flag is set, and the queue is scanned again at EOM, at EOI and when
another message comes. An event is a bit in the SIEF page. Both raise the SINT's vector, edge-triggered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from ringminus.clock import ReferenceClock
from ringminus.cpu.engine import general_protection
from ringminus.hypervisor.overlay import Overlay
from ringminus.hypervisor.status import HvStatus
from ringminus.hypervisor.stimer import SyntheticTimer
from ringminus.hypervisor.wire import (
    EVENT_FLAGS,
    EVENT_FLAGS_SIZE,
    FIRST_VECTOR,
    MESSAGE_PAYLOAD_LIMIT,
    MESSAGE_PENDING,
    MESSAGE_SIZE,
    PAGE_ADDRESS,
    PAGE_ENABLE,
    SCONTROL_ENABLE,
    SINTS,
    SYNIC_VERSION,
    MessageHeader,
    MessageType,
    Sint,
    TimerMessage,
)
from ringminus.memory import GuestMemory
from ringminus.tap import EventSignal, SynicMessage, Tap

QUEUE_LIMIT = 256  # messages that may wait for one SINT
SOURCES = tuple(f"sint{index}" for index in range(SINTS))
TYPE_SIZE, EMPTY = 4, bytes(4)  # the message type comes first; HvMessageTypeNone is an empty slot
FLAGS_OFFSET = MessageHeader.offset_of("flags")


class Posted(NamedTuple):
    """A message that waits; `changed` is there if who changes events has had it already."""

    message_type: int
    origin: int
    payload: bytes
    changed: str | None = None


class SynIC:
    """Registers, pages and queues. `raise_vector(vector, source, auto_eoi)` is the local APIC's."""

    def __init__(
        self,
        vp_index: int,
        memory: GuestMemory,
        clock: ReferenceClock,
        tap: Tap,
        raise_vector: Callable[[int, str, bool], None],
    ) -> None:
        self.vp_index = vp_index
        self._clock = clock
        self._tap = tap
        self._raise = raise_vector
        self._control = 0
        self._simp = 0
        self._siefp = 0
        self._sints = [Sint.MASKED] * SINTS
        self._messages = Overlay(memory)
        self._events = Overlay(memory)
        self._queues: list[deque[Posted]] = [deque() for _ in range(SINTS)]
        self._timers: list[list[SyntheticTimer]] = [[] for _ in range(SINTS)]
        self._waiting: set[int] = set()  # SINTs with a message in queue or a timer that waits

    # ------------------------------------------------------------ registers

    def read_control(self) -> int:
        return self._control

    def write_control(self, value: int) -> None:
        self._control = value
        self.rescan()

    def read_version(self) -> int:
        return SYNIC_VERSION

    def read_simp(self) -> int:
        return self._simp

    def write_simp(self, value: int) -> None:
        self._simp = value
        self._place(self._messages, value)
        self.rescan()

    def read_siefp(self) -> int:
        return self._siefp

    def write_siefp(self, value: int) -> None:
        self._siefp = value
        self._place(self._events, value)

    @staticmethod
    def _place(page: Overlay, register: int) -> None:
        if register & PAGE_ENABLE:
            page.show(register & PAGE_ADDRESS)
        else:
            page.hide()

    def read_eom(self) -> int:
        return 0

    def write_eom(self, value: int) -> None:
        if self._waiting:
            self.rescan()

    def read_sint(self, index: int) -> int:
        return self._sints[index]

    def write_sint(self, index: int, value: int) -> None:
        """#GP for an impossible vector, unless the SINT is masked."""
        if value & Sint.VECTOR < FIRST_VECTOR and not value & Sint.MASKED:
            raise general_protection()
        self._sints[index] = value

    # ------------------------------------------------------------ messages

    def post_message(self, sint: int, message_type: int, payload: bytes, origin: int = 0) -> HvStatus:
        """Queue a message of at most 240 bytes and deliver what can be delivered."""
        if not 0 < message_type < 1 << 32 or len(payload) > MESSAGE_PAYLOAD_LIMIT:
            raise ValueError(f"message type {message_type:#x} with {len(payload)} bytes cannot be sent")
        if not self._control & SCONTROL_ENABLE or not self._simp & PAGE_ENABLE:
            return HvStatus.INVALID_SYNIC_STATE
        queue = self._queues[sint]
        if len(queue) >= QUEUE_LIMIT:
            return HvStatus.INSUFFICIENT_BUFFERS
        queue.append(Posted(message_type, origin, payload))
        self._waiting.add(sint)
        self._deliver(sint)
        if queue and self._tap.messages is not None:
            self._tell(sint, message_type, payload, False)
        return HvStatus.SUCCESS

    def timer_expired(self, timer: SyntheticTimer) -> None:
        """Deliver the timer's message, or keep it until its slot is free."""
        sint = timer.sint
        waiting = self._timers[sint]
        if timer not in waiting:
            waiting.append(timer)
            self._waiting.add(sint)
        self._deliver(sint)

    def drop_timer(self, timer: SyntheticTimer) -> None:
        """Forget the timer's message that waits, if one does."""
        waiting = self._timers[timer.sint]
        if timer in waiting:
            waiting.remove(timer)
            if not waiting and not self._queues[timer.sint]:
                self._waiting.discard(timer.sint)

    def rescan(self) -> None:
        """Try again to deliver everything that waits: EOM."""
        for sint in sorted(self._waiting):
            self._deliver(sint)

    def on_eoi(self, vector: int) -> None:
        """The guest ended an interrupt: the queues are scanned, too."""
        if self._waiting:
            self.rescan()

    def _deliver(self, sint: int) -> None:
        """Move the first message that waits for `sint` to its slot, if that is empty."""
        view = self._messages.view
        if view is None or not self._control & SCONTROL_ENABLE:
            return
        slot = sint * MESSAGE_SIZE
        if view[slot : slot + TYPE_SIZE] != EMPTY:
            # the guest looks at the flag after it has emptied the slot, and then writes EOM
            view[slot + FLAGS_OFFSET] |= MESSAGE_PENDING
            self._messages.touched(slot + FLAGS_OFFSET, 1)
            return
        taken = self._take(sint)
        if self._tap.messages is not None and taken.changed is None and "messages" in self._tap.changers:
            changed = self._change(sint, taken)
            if changed is None:
                if self._queues[sint] or self._timers[sint]:
                    self._deliver(sint)
                else:
                    self._waiting.discard(sint)
                return
            taken = changed
        message_type, origin, payload, words = taken
        more = bool(self._queues[sint] or self._timers[sint])
        if not more:
            self._waiting.discard(sint)
        header = MessageHeader(
            message_type=message_type,
            payload_size=len(payload),
            flags=MESSAGE_PENDING if more else 0,
            origin=origin,
        )
        header.pack_into(view, slot)
        view[slot + MessageHeader.SIZE : slot + MessageHeader.SIZE + len(payload)] = payload
        self._messages.touched(slot, MESSAGE_SIZE)
        if self._tap.messages is not None:
            scope = self._tap.within(self._tell(sint, message_type, payload, True, words or ""))
            self._interrupt(sint)
            self._tap.leave(scope)
        else:
            self._interrupt(sint)

    def _take(self, sint: int) -> Posted:
        queue = self._queues[sint]
        if queue:
            return queue.popleft()
        timer = self._timers[sint].pop(0)
        times = TimerMessage(
            timer_index=timer.index,
            expiration_time=timer.expiration,
            delivery_time=self._clock.reference_time(),
        )
        return Posted(MessageType.TIMER_EXPIRED, 0, times.pack())

    def _change(self, sint: int, posted: Posted) -> Posted | None:
        """What becomes of a message whose slot is free; None if nothing is to be put there now."""
        message_type, origin, payload, _ = posted
        event = SynicMessage(self._clock.reference_time(), self.vp_index, sint, message_type, payload, True)
        verdict = self._tap.decide(event, event.POINT)
        if verdict.dropped:
            self._tap.tell(event)
            return None
        made = Posted(event.message_type, origin, event.payload[:MESSAGE_PAYLOAD_LIMIT], event.changed)
        several = [made] * (1 + verdict.copies)
        if verdict.delay and self._tap.later is not None:
            self._tap.later(verdict.delay, lambda _now: self._again(sint, several))
            return None
        self._queues[sint].extendleft(several[1:])
        return made

    def _again(self, sint: int, messages: list[Posted]) -> None:
        """Messages that were held back go to the end of the queue."""
        self._queues[sint].extend(messages)
        self._waiting.add(sint)
        self._deliver(sint)

    def _tell(
        self, sint: int, message_type: int, payload: bytes, delivered: bool, changed: str = ""
    ) -> SynicMessage:
        now = self._clock.reference_time()
        event = SynicMessage(now, self.vp_index, sint, message_type, payload, delivered, changed=changed)
        if self._tap.messages is not None:
            self._tap.messages(event)
        return event

    def _interrupt(self, sint: int) -> None:
        value = self._sints[sint]
        if not value & (Sint.MASKED | Sint.POLLING):
            self._raise(value & Sint.VECTOR, SOURCES[sint], bool(value & Sint.AUTO_EOI))

    # ------------------------------------------------------------ events

    def signal_event(self, sint: int, flag: int, changed: str = "") -> HvStatus:
        """Set an event flag (0–2047), and raise the SINT's vector if it was clear. `changed` says that the
        signal comes from who changes events."""
        if not 0 <= flag < EVENT_FLAGS:
            raise ValueError(f"there is no event flag {flag}")
        view = self._events.view
        sint_register = self._sints[sint]
        enabled = self._control & SCONTROL_ENABLE and self._siefp & PAGE_ENABLE
        if not enabled or sint_register & (Sint.MASKED | Sint.POLLING) == Sint.MASKED:
            return HvStatus.INVALID_SYNIC_STATE
        if view is None:  # enabled at a place that the guest does not have
            return HvStatus.SUCCESS
        if self._tap.signals is not None:
            self._signal_observed(sint, flag, changed)
            return HvStatus.SUCCESS
        byte, bit = sint * EVENT_FLAGS_SIZE + (flag >> 3), 1 << (flag & 7)
        if not view[byte] & bit:
            view[byte] |= bit
            self._events.touched(byte, 1)
            self._interrupt(sint)
        return HvStatus.SUCCESS

    def _set_flag(self, sint: int, flag: int) -> bool:
        """Whether it was clear."""
        view = self._events.view
        byte, bit = sint * EVENT_FLAGS_SIZE + (flag >> 3), 1 << (flag & 7)
        if view is None or view[byte] & bit:
            return False
        view[byte] |= bit
        self._events.touched(byte, 1)
        return True

    def _signal_observed(self, sint: int, flag: int, changed: str) -> None:
        event = EventSignal(self._clock.reference_time(), self.vp_index, sint, flag, True, changed=changed)
        copies = 0
        if not changed and event.POINT in self._tap.changers:
            verdict = self._tap.decide(event, event.POINT)
            if verdict.dropped:
                event.raised = False
                return self._tap.tell(event)
            copies = verdict.copies
            if verdict.delay and self._tap.later is not None:
                return self._tap.later(verdict.delay, lambda now: self._signal(event, copies, now))
        return self._signal(event, copies, event.time)

    def _signal(self, event: EventSignal, copies: int, now: int) -> None:
        """Set the flag, tell of it, and raise the vector if the flag was clear."""
        event.time = now
        event.raised = self._set_flag(event.sint, event.flag)
        self._tap.tell(event)
        scope = self._tap.within(event)
        if event.raised:
            self._interrupt(event.sint)
        self._tap.leave(scope)
        if copies:
            again = EventSignal(now, event.vp, event.sint, event.flag, False, changed=event.changed)
            again.cause = event.sequence
            self._signal(again, copies - 1, now)

    # ------------------------------------------------------------ state

    def queued(self, sint: int) -> int:
        """How many messages wait for `sint`, timers not counted."""
        return len(self._queues[sint])

    def save(self) -> dict[str, Any]:
        """State as plain data."""
        return {
            "control": self._control,
            "simp": self._simp,
            "siefp": self._siefp,
            "sints": list(self._sints),
            "messages": self._messages.save(),
            "events": self._events.save(),
            "queues": [[list(message) for message in queue] for queue in self._queues],
            "timers": [[timer.index for timer in waiting] for waiting in self._timers],
        }

    def restore(self, state: dict[str, Any], timers: list[SyntheticTimer]) -> None:
        """`timers` are the virtual processor's own, by index."""
        self._control, self._simp, self._siefp = state["control"], state["simp"], state["siefp"]
        self._sints = list(state["sints"])
        self._messages.restore(state["messages"])
        self._events.restore(state["events"])
        self._queues = [deque(Posted(*message) for message in queue) for queue in state["queues"]]
        self._timers = [[timers[index] for index in waiting] for waiting in state["timers"]]
        self._waiting = {sint for sint in range(SINTS) if self._queues[sint] or self._timers[sint]}
