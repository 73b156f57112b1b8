"""Port mirroring: who is shown the frames of whom.

A mirror destination is shown what sources send, as far as the switch lets it in, and what goes to them; each
frame once, as it is at the first source that it meets, and none that it sent or gets anyhow. What it is shown
does not enter the switch again, so nothing goes round. One without an address of its own, such as a capture,
is shown that and nothing else, and sends nothing. (What Hyper-V calls MonitorMode of a port.)"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ringminus.switch.frame import Frame

if TYPE_CHECKING:
    from ringminus.switch.switchport import SwitchPort

SOURCE, DESTINATION = "source", "destination"


def arrange(ports: Iterable[SwitchPort]) -> bool:
    """Work out anew by whom each port is watched; gives whether any is."""
    ports = tuple(ports)
    watching = [port for port in ports if port.up and port.settings.mirror == DESTINATION]
    for port in ports:
        port.watchers = tuple(one for one in watching if one is not port and _is_shown(one, port))
    return any(port.watchers for port in ports)


def _is_shown(watcher: SwitchPort, port: SwitchPort) -> bool:
    if watcher.watches is None:
        return port.settings.mirror == SOURCE
    return not watcher.watches or port.number in watcher.watches


def show(sender: SwitchPort, vlan: int, sent: Frame, inside: Frame, targets: tuple[SwitchPort, ...]) -> None:
    """Show a frame that `sender` sent, and that goes to `targets` as `inside`, to all that watch either."""
    done = {sender, *targets}
    for watcher in sender.watchers:
        if watcher.up and watcher not in done:
            done.add(watcher)
            watcher.give(sender, sent)
    for to in targets:
        if to.watchers and (out := to.tagging.outside(vlan, inside)) is not None:
            for watcher in to.watchers:
                if watcher.up and watcher not in done:
                    done.add(watcher)
                    watcher.give(sender, out)
