"""What the control plane wants done: it returns lists of these, to be carried out in order."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ringminus.vmbus.control.gpadl import Gpadl
from ringminus.vmbus.control.offers import OfferKey


@dataclass(frozen=True, slots=True)
class MessageTarget:
    """Where a message goes: a virtual processor and its SINT."""

    vp: int
    sint: int


@dataclass(frozen=True, slots=True)
class Send:
    """A message for the guest: to `target`, or without one to the control plane's `target_vp` and
    `message_sint`. Only reserved channels and refused contacts have a target of their own."""

    payload: bytes
    target: MessageTarget | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """A guest has connected; all that was before is gone, and has been closed by the actions before."""

    version: int
    features: int


@dataclass(frozen=True, slots=True)
class Unloaded:
    """The guest has disconnected: by UNLOAD, or by a contact that was refused."""


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """What the guest asks for. `gpadl` is one page-aligned range of RAM and `downstream_offset_pages` lies
    within it. The guest signals us on `connection_id`, we signal `event_flag`, of the guest's SINT, on
    `target_vp`; None is a channel that wants no interrupts. `redirect` asks for the interrupt at a redirected
    SINT, which we do not have; it may be ignored."""

    relid: int
    open_id: int
    gpadl: Gpadl
    downstream_offset_pages: int
    target_vp: int | None
    user_data: bytes
    connection_id: int
    event_flag: int
    redirect: bool = False


@dataclass(frozen=True, slots=True)
class OpenRequested:
    """The guest opens a channel; answer with `ControlPlane.open_result`, unless it is closed before."""

    offer: OfferKey
    request: OpenRequest


@dataclass(frozen=True, slots=True)
class Closed:
    """An open or opening channel is closed. None of its GPADLs may be touched any more."""

    offer: OfferKey


@dataclass(frozen=True, slots=True)
class GpadlCreated:
    """The guest has made a GPADL. Each is followed by one `GpadlTornDown`."""

    offer: OfferKey
    handle: int


@dataclass(frozen=True, slots=True)
class GpadlTornDown:
    """The guest takes a GPADL back, and is told so by an action that comes later: let go of it now."""

    offer: OfferKey
    handle: int


@dataclass(frozen=True, slots=True)
class Retargeted:
    """Interrupts of an open channel go to another virtual processor from now on."""

    offer: OfferKey
    target_vp: int


@dataclass(frozen=True, slots=True)
class Released:
    """The offer is forgotten: it was rescinded and the guest has let go of it, or it was a sub-channel's."""

    offer: OfferKey


@dataclass(frozen=True, slots=True)
class Paused:
    """The guest wants no messages for now; those that come are held."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The guest takes messages again; those that were held follow."""


@dataclass(frozen=True, slots=True)
class MonitorPages:
    """The monitor pages' guest-physical addresses; None for none."""

    parent_to_child: int | None
    child_to_parent: int | None


@dataclass(frozen=True, slots=True)
class TlConnect:
    """The guest's socket wants to reach a service of ours: offer a channel, or refuse with
    `ControlPlane.tl_connect_result`."""

    endpoint: UUID
    service: UUID
    silo: UUID | None


Action = (
    Send
    | Connected
    | Unloaded
    | OpenRequested
    | Closed
    | GpadlCreated
    | GpadlTornDown
    | Retargeted
    | Released
    | Paused
    | Resumed
    | MonitorPages
    | TlConnect
)
