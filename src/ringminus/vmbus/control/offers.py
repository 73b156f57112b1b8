"""Offers: what the host tells the guest of a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from ringminus.errors import ConfigError
from ringminus.vmbus.control.messages import encode
from ringminus.vmbus.wire import (
    MONITOR_ID_LIMIT,
    PIPE_MODE_SIZE,
    USER_DATA_SIZE,
    ChannelFlag,
    ChannelOffer,
    Feature,
    OfferChannel,
    PipeMode,
)

OfferKey = int
"""Names an offer on the host's side, over all of a guest's connections; never used twice."""

Identity = tuple[UUID, UUID, int]
"""What an offer is to the guest: interface, instance and sub-channel index."""

NO_FLAGS = ChannelFlag(0)
CONFIDENTIAL = ChannelFlag.CONFIDENTIAL_RING | ChannelFlag.CONFIDENTIAL_EXTERNAL_MEMORY


@dataclass(frozen=True, slots=True)
class Offer:
    """A channel to offer. `user_defined` is up to 120 bytes, 116 with a pipe mode; `monitor_id` is the bit of
    the monitor page that is its doorbell. Raises `ConfigError` for what the wire cannot say."""

    interface: UUID
    instance: UUID
    flags: ChannelFlag = NO_FLAGS
    pipe_mode: PipeMode | None = None
    user_defined: bytes = b""
    mmio_megabytes: int = 0
    subchannel_index: int = 0
    monitor_id: int | None = None

    def __post_init__(self) -> None:
        limit = USER_DATA_SIZE - (0 if self.pipe_mode is None else PIPE_MODE_SIZE)
        if len(self.user_defined) > limit:
            raise ConfigError(f"an offer has room for {limit} bytes of its own, not {len(self.user_defined)}")
        if not 0 <= self.mmio_megabytes < 1 << 16 or not 0 <= self.subchannel_index < 1 << 16:
            raise ConfigError(f"{self.mmio_megabytes} MiB of MMIO or sub-channel {self.subchannel_index}")
        if self.monitor_id is not None and not 0 <= self.monitor_id < MONITOR_ID_LIMIT:
            raise ConfigError(f"monitor id {self.monitor_id} is not below {MONITOR_ID_LIMIT}")

    @property
    def identity(self) -> Identity:
        """What the guest knows it by."""
        return self.interface, self.instance, self.subchannel_index

    def message(self, relid: int, connection_id: int, features: int, *, monitored: bool) -> bytes:
        """OFFER_CHANNEL to a guest that has `features`, and monitor pages when `monitored`."""
        monitor_id = self.monitor_id if monitored else None
        return encode(
            "OFFER_CHANNEL",
            OfferChannel,
            offer=ChannelOffer(
                if_type=self.interface.bytes_le,
                if_instance=self.instance.bytes_le,
                chn_flags=self._flags(features),
                mmio_megabytes=self.mmio_megabytes,
                user_def=self._user_data(),
                sub_channel_index=self.subchannel_index,
            ),
            child_relid=relid,
            monitorid=0xFF if monitor_id is None else monitor_id,
            monitor_allocated=int(monitor_id is not None),
            # otherwise the guest would also have to set bits in an interrupt page
            is_dedicated_interrupt=1,
            connection_id=connection_id,
        )

    def _flags(self, features: int) -> int:
        flags = self.flags
        if self.pipe_mode is not None:
            flags |= ChannelFlag.NAMED_PIPE_MODE
        if not features & Feature.CONFIDENTIAL_CHANNELS:
            flags &= ~CONFIDENTIAL
        if not features & Feature.GPA_PINNING:
            flags &= ~ChannelFlag.PINNED_EXTERNAL_MEMORY
        return int(flags)

    def _user_data(self) -> bytes:
        if self.pipe_mode is None:
            return self.user_defined
        return int(self.pipe_mode).to_bytes(PIPE_MODE_SIZE, "little") + self.user_defined

    def save(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "interface": str(self.interface),
            "instance": str(self.instance),
            "flags": int(self.flags),
            "pipe_mode": None if self.pipe_mode is None else int(self.pipe_mode),
            "user_defined": self.user_defined,
            "mmio_megabytes": self.mmio_megabytes,
            "subchannel_index": self.subchannel_index,
            "monitor_id": self.monitor_id,
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Self:
        """What `save` gave."""
        pipe_mode = state["pipe_mode"]
        return cls(
            **{
                **state,
                "interface": UUID(state["interface"]),
                "instance": UUID(state["instance"]),
                "flags": ChannelFlag(state["flags"]),
                "pipe_mode": None if pipe_mode is None else PipeMode(pipe_mode),
            }
        )
