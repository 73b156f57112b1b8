"""A synthetic device that computes SHA-256 for its guest."""

import hashlib
from typing import Any
from uuid import UUID

from ringminus.errors import GuestError
from ringminus.vmbus.device import Channel, Device, Packet
from ringminus.wire import U32, Struct


class Request(Struct):
    """What the guest sends: this, and `length` bytes. It gets their digest as the packet's completion."""

    length: U32


class Digest(Device):
    interface = UUID("be6d21ad-0a5c-4a54-a0f4-3f3a3a4c1d01")
    monitored = True  # Linux's uio_hv_generic takes no others

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def opened(self, channel: Channel) -> None:
        channel.send(f"digest device, VMBus {channel.version >> 16}.{channel.version & 0xFFFF}".encode())

    def packet(self, channel: Channel, packet: Packet) -> None:
        channel.complete(packet.transaction_id, hashlib.sha256(self.data_of(packet)).digest())

    def data_of(self, packet: Packet) -> memoryview:
        request = Request.unpack(packet.payload)
        data = packet.payload[Request.SIZE :][: request.length]
        if len(data) < request.length:
            raise GuestError(f"{request.length} bytes of which {len(data)} are there")
        self.total += len(data)
        return data

    def save(self) -> dict[str, Any]:
        return {"total": self.total}

    def restore(self, state: dict[str, Any]) -> None:
        self.total = state["total"]


class PatientDigest(Digest):
    """The same on a host thread, as for work that would hold up the guest."""

    def packet(self, channel: Channel, packet: Packet) -> None:
        data, transaction_id = bytes(self.data_of(packet)), packet.transaction_id

        def done(result: bytes | Exception) -> None:
            if isinstance(result, Exception):
                raise result
            channel.complete(transaction_id, result)

        self.services.run(lambda: hashlib.sha256(data).digest(), done)
