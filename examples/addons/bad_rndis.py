"""Gives the guest RNDIS packets that claim to be longer than they are, and tells what its driver says.

    ringminus run … --nic nat --addon examples/addons/bad_rndis.py,every=5

Linux's hv_netvsc finds the lie, says so in its log, and completes the packet with the status FAIL.
"""

from ringminus.lens.addons import Context, only
from ringminus.tap import DeviceMessage, RingPacket

TOO_MUCH = 60_000


class BadRndis:
    def __init__(self, every: int = 5) -> None:
        self.every = every
        self.packets = self.lies = 0

    @only("rndis.message == packet and device.to_guest")
    def device_message(self, event: DeviceMessage, ctx: Context) -> None:
        self.packets += 1
        if self.packets % self.every == 0:
            packet = ctx.message(event).rndis
            ctx.log(f"a packet of {packet.data_len} bytes claims {TOO_MUCH}")
            packet.data_len = TOO_MUCH
            self.lies += 1

    @only("nvsp.message == send_rndis_pkt_complete and nvsp.status != success")
    def packet_from_guest(self, event: RingPacket, ctx: Context) -> None:
        ctx.log(f"the guest's driver says: {ctx.message(event).nvsp}")

    def stop(self, ctx: Context) -> None:
        ctx.log(f"{self.lies} of {self.packets} packets lied")
