"""Why a guest's message is refused. Some refusals have an answer in the protocol; the others raise."""

from __future__ import annotations

from enum import StrEnum

from ringminus.errors import GuestError


class Refusal(StrEnum):
    """Keys of `ControlPlane.refusals`."""

    TOO_SHORT = "too short"
    TOO_LONG = "too long"
    NO_SUCH_MESSAGE = "no such message"
    NOT_CONNECTED = "not connected"
    NOT_IN_VERSION = "not in this version"
    PAUSED = "paused"
    OFFERS_SENT = "offers sent already"
    BAD_TARGET = "no such processor, SINT or VTL"
    BAD_VERSION = "version not supported"
    BAD_MONITOR_PAGES = "bad monitor pages"
    NO_CLIENT_ID = "no client id"
    UNKNOWN_RELID = "unknown relid"
    RESCINDED = "rescinded"
    ALREADY_OPEN = "open already"
    NOT_OPEN = "not open"
    STILL_OPEN = "still open"
    RESERVED = "reserved channel"
    NOT_RESERVED = "not a reserved channel"
    BAD_RING = "bad ring"
    BAD_SIGNAL = "bad connection id or event flag"
    DEVICE_REFUSED = "refused by the device"
    INTERRUPTS_OFF = "interrupts are off"
    UNKNOWN_GPADL = "unknown GPADL"
    DUPLICATE_GPADL = "duplicate GPADL"
    BAD_GPADL = "bad ranges"
    NOT_RAM = "not RAM"
    TOO_MUCH_MEMORY = "too much memory in GPADLs"
    GPADL_IN_USE = "GPADL in use"
    TEARDOWN_PENDING = "teardown pending"


class VmBusError(GuestError):
    """The guest broke the bus protocol, and the protocol has no answer for it."""

    def __init__(self, reason: Refusal, text: str) -> None:
        super().__init__(text)
        self.reason = reason
