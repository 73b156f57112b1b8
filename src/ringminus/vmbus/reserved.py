"""Reserved channels: opened and closed by messages of their own, and open over connections.

Firmware keeps one open while the operating system connects. Their answers go to the processor and SINT that
the messages name. The rules are OpenVMM's (vmbus_server/src/channels.rs).
"""

from __future__ import annotations

from ringminus.vmbus.actions import MessageTarget, OpenRequest
from ringminus.vmbus.channel_states import Channel, Idle, Open, Rescinded, Reserved
from ringminus.vmbus.channels import Channels
from ringminus.vmbus.core import Arrived, Core
from ringminus.vmbus.refusals import Refusal, VmBusError
from ringminus.vmbus.wire import (
    SINT_COUNT,
    CloseReservedChannel,
    CloseReservedResponse,
    OpenReservedChannel,
    OpenResult,
    Status,
)


class ReservedChannels:
    """OPEN_RESERVED_CHANNEL and CLOSE_RESERVED_CHANNEL."""

    def __init__(self, core: Core, channels: Channels) -> None:
        self._core = core
        self._outbox = core.outbox
        self._channels = channels

    def open(self, message: OpenReservedChannel, _arrived: Arrived) -> None:
        """Open a channel, without interrupts, that stays open when the guest disconnects."""
        channel = self._core.channels.by_relid(message.child_relid)
        if channel is not None and isinstance(channel.state, Rescinded):
            self._outbox.count(Refusal.RESCINDED)
            return
        target = self._target(message.target_vp, message.target_sint)
        request = Refusal.BAD_TARGET if target is None else self._request(channel, message)
        if not isinstance(request, Refusal):
            assert channel is not None and target is not None
            self._channels.begin(channel, request, Reserved(target))
            return
        self._outbox.count(request)
        fields = {"child_relid": message.child_relid, "openid": 0, "status": Status.UNSUCCESSFUL}
        if target is None:
            self._outbox.send("OPEN_CHANNEL_RESULT", OpenResult, **fields)
        else:
            self._outbox.send_to(target, "OPEN_CHANNEL_RESULT", OpenResult, **fields)

    def _request(self, channel: Channel | None, message: OpenReservedChannel) -> OpenRequest | Refusal:
        if channel is None:
            return Refusal.UNKNOWN_RELID
        if not isinstance(channel.state, Idle):
            return Refusal.ALREADY_OPEN
        return self._channels.request(
            channel,
            channel.state.relid,
            message.ringbuffer_gpadlhandle,
            message.downstream_ringbuffer_pageoffset,
        )

    def close(self, message: CloseReservedChannel, _arrived: Arrived) -> None:
        """Close one; also from a guest that is not connected."""
        channel = self._core.channels.by_relid(message.child_relid)
        if channel is None:
            text = f"CLOSE_RESERVED_CHANNEL of unknown relid {message.child_relid}"
            raise VmBusError(Refusal.UNKNOWN_RELID, text)
        if channel.reserved is None:
            text = f"CLOSE_RESERVED_CHANNEL of relid {channel.relid}, which is none"
            raise VmBusError(Refusal.NOT_RESERVED, text)
        if not isinstance(channel.in_use, Open):
            raise VmBusError(
                Refusal.NOT_OPEN, f"CLOSE_RESERVED_CHANNEL of relid {channel.relid} while it opens"
            )
        target = self._target(message.target_vp, message.target_sint)
        if target is None:
            text = f"CLOSE_RESERVED_CHANNEL: no SINT {message.target_sint} on processor {message.target_vp}"
            raise VmBusError(Refusal.BAD_TARGET, text)
        self._channels.close_reserved(channel)
        self._outbox.send_to(
            target, "CLOSE_RESERVED_RESPONSE", CloseReservedResponse, child_relid=message.child_relid
        )

    def _target(self, vp: int, sint: int) -> MessageTarget | None:
        if vp >= self._core.vp_count or sint >= SINT_COUNT:
            return None
        return MessageTarget(vp, sint)
