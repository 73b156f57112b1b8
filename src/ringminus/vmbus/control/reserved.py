"""Reserved channels: opened and closed by messages of their own, and open over connections.

Firmware keeps one open while the operating system connects. Their answers go to the processor and SINT that
the messages name. The rules are OpenVMM's (vmbus_server/src/channels.rs).
"""

from __future__ import annotations

from ringminus.vmbus.control.actions import MessageTarget
from ringminus.vmbus.control.channel_states import Channel, Open, Rescinded, Reserved
from ringminus.vmbus.control.channels import Channels
from ringminus.vmbus.control.core import Arrived, Core
from ringminus.vmbus.control.refusals import Refusal, VmBusError
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
        refusal = self._try_open(channel, target, message)
        if refusal is None:
            return
        self._outbox.count(refusal)
        fields = {"child_relid": message.child_relid, "openid": 0, "status": Status.UNSUCCESSFUL}
        if target is None:
            self._outbox.send("OPEN_CHANNEL_RESULT", OpenResult, **fields)
        else:
            self._outbox.send_to(target, "OPEN_CHANNEL_RESULT", OpenResult, **fields)

    def _try_open(
        self, channel: Channel | None, target: MessageTarget | None, message: OpenReservedChannel
    ) -> Refusal | None:
        if target is None:
            return Refusal.BAD_TARGET
        if channel is None:
            return Refusal.UNKNOWN_RELID
        handle, offset = message.ringbuffer_gpadlhandle, message.downstream_ringbuffer_pageoffset
        request = self._channels.request(channel, handle, offset)
        if isinstance(request, Refusal):
            return request
        return self._channels.begin(channel, request, Reserved(target))

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
