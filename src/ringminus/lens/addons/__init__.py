"""Addons: a person's Python that sees, changes, drops, delays, answers and injects what crosses the boundary.

    from ringminus.lens.addons import Context, only
    from ringminus.tap import RingPacket

    class NoWrites:
        @only("scsi.op == write_10")
        def packet_from_guest(self, event: RingPacket, ctx: Context) -> None:
            ctx.log(f"a write to block {ctx.message(event).scsi.lba}")
            event.drop()

`ringminus run --addon FILE[,KEY=VALUE…]` loads them, `ringminus lens hooks` lists the hooks.
"""

from ringminus.changes import ChangeError
from ringminus.lens.addons.context import Context
from ringminus.lens.addons.only import only

__all__ = ["ChangeError", "Context", "only"]
