"""A guest's connection, and how INITIATE_CONTACT becomes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Self
from uuid import UUID

from ringminus.memory import PAGE_MASK, PAGE_SIZE
from ringminus.vmbus.control.refusals import Refusal
from ringminus.vmbus.wire import MESSAGE_SINT, Feature, InitiateContact, InitiateContact2, TargetInfo, Version

NO_CLIENT = UUID(int=0)
FEATURES = (
    Feature.GUEST_SIGNAL_PARAMETERS
    | Feature.INTERRUPT_REDIRECTION
    | Feature.MODIFY_CONNECTION
    | Feature.CLIENT_ID
    | Feature.PAUSE_RESUME
    | Feature.SERVER_MONITOR_PAGES
)
"""What a host of ordinary guests has. Confidential channels need an isolated guest, pinning a paravisor."""


@dataclass(frozen=True, slots=True)
class Pages:
    """The monitor pages' guest-physical addresses; a host that provides them may leave the first out (0)."""

    parent_to_child: int
    child_to_parent: int


@dataclass(slots=True)
class Connection:
    """What was agreed with the guest. `held` are messages that wait for RESUME; None: it is not paused."""

    version: int
    features: int
    client_id: UUID = NO_CLIENT
    pages: Pages | None = None
    host_pages: bool = False
    offers_sent: bool = False
    held: list[bytes] | None = field(default=None)

    def save(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "version": self.version,
            "features": self.features,
            "client_id": str(self.client_id),
            "pages": None if self.pages is None else asdict(self.pages),
            "host_pages": self.host_pages,
            "offers_sent": self.offers_sent,
            "held": None if self.held is None else list(self.held),
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Self:
        """What `save` gave."""
        pages, held = state["pages"], state["held"]
        return cls(
            **{
                **state,
                "client_id": UUID(state["client_id"]),
                "pages": None if pages is None else Pages(**pages),
                "held": None if held is None else list(held),
            }
        )


@dataclass(frozen=True, slots=True)
class Contact:
    """INITIATE_CONTACT as its version means it: fields that the version does not have are as if absent."""

    version: int
    vp: int
    sint: int
    vtl: int
    features: int
    client_id: UUID | None
    pages: Pages

    @classmethod
    def of(cls, message: InitiateContact | InitiateContact2, *, targeted: bool) -> Self:
        """`targeted`: it came by the connection of guests that may name a SINT and a VTL."""
        version = message.vmbus_version_requested
        info = TargetInfo.unpack(message.interrupt_page.to_bytes(TargetInfo.SIZE, "little"))
        return cls(
            version=version,
            # older guests take messages on the first processor only
            vp=message.target_vcpu if version >= Version.WIN8_1 else 0,
            sint=info.msg_sint if targeted and version >= Version.WIN10_V5 else MESSAGE_SINT,
            vtl=info.msg_vtl if targeted and version >= Version.WIN10_V5_1 else 0,
            features=info.feature_flags if version >= Version.COPPER else 0,
            client_id=UUID(bytes_le=message.client_id) if isinstance(message, InitiateContact2) else None,
            pages=Pages(message.monitor_page1, message.monitor_page2),
        )

    def connect(
        self, ours: int, host_pages: Pages | None, is_ram: Callable[[int, int], bool]
    ) -> Connection | Refusal:
        """The connection that it makes with a host of features `ours`."""
        if self.version not in Version.__members__.values():
            return Refusal.BAD_VERSION
        features = int(ours) & self.features
        client_id = NO_CLIENT
        if features & Feature.CLIENT_ID:
            if self.client_id is None:
                return Refusal.NO_CLIENT_ID
            client_id = self.client_id
        if host_pages is not None and features & Feature.SERVER_MONITOR_PAGES:
            return Connection(self.version, features, client_id, host_pages, host_pages=True)
        features &= ~int(Feature.SERVER_MONITOR_PAGES)
        pages = checked_pages(self.pages, is_ram)
        if isinstance(pages, Refusal):
            return pages
        return Connection(self.version, features, client_id, pages)


def checked_pages(pages: Pages, is_ram: Callable[[int, int], bool]) -> Pages | Refusal | None:
    """A guest's monitor pages: both or, with zeros, neither."""
    both = (pages.parent_to_child, pages.child_to_parent)
    if not any(both):
        return None
    if all(gpa and not gpa & PAGE_MASK and is_ram(gpa, PAGE_SIZE) for gpa in both):
        return pages
    return Refusal.BAD_MONITOR_PAGES
