"""Delays every tenth completion of the storage by 200 ms: what does the guest do about it?

ringminus run … --disk root.vhdx --addon examples/addons/slow_storage.py,every=10,seconds=0.2
"""

from ringminus.lens.addons import Context, only
from ringminus.tap import RingPacket


class SlowStorage:
    def __init__(self, every: int = 10, seconds: float = 0.2) -> None:
        self.every = every
        self.seconds = seconds
        self.completions = 0

    @only("vstor.message == complete_io")
    def packet_to_guest(self, event: RingPacket, ctx: Context) -> None:
        self.completions += 1
        if self.completions % self.every == 0:
            event.delay(self.seconds)

    def stop(self, ctx: Context) -> None:
        ctx.log(f"{self.completions // self.every} of {self.completions} completions were late")
