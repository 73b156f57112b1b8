"""What the process of a named switch does for those who link to it: guests, captures and commands."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ringminus.clock import REFERENCE_HZ, ReferenceClock, TimerQueue
from ringminus.errors import ConfigError, HostError
from ringminus.switch.link.changes import changed
from ringminus.switch.link.documents import ROLE_CAPTURE, Hello, Request
from ringminus.switch.link.server import Link, Listener
from ringminus.switch.mirroring import DESTINATION
from ringminus.switch.places import Place
from ringminus.switch.reactor import Reactor
from ringminus.switch.settings import from_dict, to_dict
from ringminus.switch.switch import Switch, SwitchPort
from ringminus.switch.uplinks import Uplink, make_uplink

FIRST_GRACE = 10 * REFERENCE_HZ
"""How long a new switch waits for its first guest."""
GRACE = 2 * REFERENCE_HZ
"""How long it waits for another one after the last has gone."""
GUEST, CAPTURE = "guest", "capture"

log = logging.getLogger(__name__)


class Hosting:
    """The switch at `place`, its ports and its life. `ending` says why it ends, "" while it goes on."""

    def __init__(self, place: Place, reactor: Reactor, clock: ReferenceClock, timers: TimerQueue) -> None:
        self.place = place
        self.switch = Switch(place.name, clock, timers)
        self.listener: Listener | None = None
        self.created = False
        self.ending = ""
        self._reactor = reactor
        self._clock = clock
        self._began = clock.reference_time()
        self._grace = timers.timer(self._lonely)
        self._links: dict[Link, SwitchPort] = {}
        self._captures: dict[Link, int] = {}
        self._uplinks: dict[SwitchPort, Uplink] = {}
        self._operations: dict[str, Callable[[Request], dict[str, Any]]] = {
            "show": lambda _: self.describe(),
            "create": self._create,
            "plug": self._plug,
            "unplug": self._unplug,
            "configure": self._configure,
            "stop": self._stop,
        }

    # -- its life

    def begin(self) -> None:
        """Make again what a killed process had, and wait for the first guest."""
        self._restore()
        self._grace.arm(self._clock.reference_time() + FIRST_GRACE)

    def end(self, why: str) -> None:
        """The process is to end, for this reason."""
        self.ending = self.ending or why

    def close(self) -> None:
        """Give all ports back."""
        self.switch.close()

    def _guests(self) -> list[SwitchPort]:
        return [port for link, port in self._links.items() if link not in self._captures]

    def _lonely(self, _now: int) -> None:
        if not self.created and not self._guests():
            self.end(f"the switch {self.place.name} ended with the last guest on it")

    # -- links

    def plug(self, link: Link, hello: Hello) -> None:
        """See `Host`."""
        settings = hello.settings
        assert settings is not None
        if hello.role == ROLE_CAPTURE:
            if hello.watch:
                self._port(hello.watch)
            port = self.switch.plug(link, replace(settings, address=None, mirror=DESTINATION))
            self.switch.watch(port, *([hello.watch] if hello.watch else []))
            self._captures[link] = hello.watch
        else:
            port = self.switch.plug(link, settings)
            self._grace.disarm()
        self._links[link] = port

    def unplug(self, link: Link) -> None:
        """See `Host`."""
        port = self._links.pop(link, None)
        self._captures.pop(link, None)
        if port is not None:
            self.switch.unplug(port)
            self._not_watched(port.number)
        if not self.created and not self._guests():
            self._grace.arm(self._clock.reference_time() + GRACE)

    def _not_watched(self, number: int) -> None:
        """Captures of this port have seen all."""
        for link in [link for link, watched in self._captures.items() if watched == number]:
            link.dismiss(f"port {number} of the switch {self.place.name} was unplugged", final=True)

    # -- requests

    def answer(self, request: Request) -> dict[str, Any]:
        """See `Host`."""
        operation = self._operations.get(request.operation)
        if operation is None:
            raise ConfigError(f"the switch {self.place.name} does not know how to {request.operation[:40]}")
        return operation(request)

    def describe(self) -> dict[str, Any]:
        """All that there is to be seen, as `ringminus switch show --json` prints it."""
        now = self._clock.reference_time()
        facts = self.switch.describe()
        for port, shown in zip(self.switch.ports(), facts["ports"], strict=True):
            shown |= self._about(port)
        return facts | {
            "pid": os.getpid(),
            "created": self.created,
            "uptime": round((now - self._began) / REFERENCE_HZ, 3),
            "refused": self.listener.refused if self.listener is not None else 0,
        }

    def _about(self, port: SwitchPort) -> dict[str, Any]:
        """What is plugged into a port."""
        endpoint = port.endpoint
        if isinstance(endpoint, Link):
            return {"kind": CAPTURE if endpoint in self._captures else GUEST, "pid": endpoint.pid}
        uplink = self._uplinks[port]
        return {"kind": uplink.kind, "options": uplink.options, "lost": dict(uplink.lost)} | (
            {"about": about} if (about := uplink.about()) else {}
        )

    def _port(self, number: int) -> SwitchPort:
        for port in self.switch.ports():
            if port.number == number:
                return port
        there = ", ".join(str(port.number) for port in self.switch.ports())
        raise ConfigError(
            f"the switch {self.place.name} has no port {number}"
            + (f"; it has {there}" if there else ": nothing is plugged into it")
        )

    def _create(self, request: Request) -> dict[str, Any]:
        """It is to stay when no guest is on it, and has uplinks; all of that or nothing."""
        if self.created:
            raise ConfigError(
                f"there is a switch {self.place.name} already: ringminus switch show {self.place.name} "
                f"shows it, and ringminus switch plug {self.place.name} adds a NAT or a TAP device"
            )
        ports = self._add_uplinks(request)
        self.created = True
        self._save()
        return {"ports": ports}

    def _plug(self, request: Request) -> dict[str, Any]:
        ports = self._add_uplinks(request)
        self._save()
        return {"ports": ports}

    def _add_uplinks(self, request: Request) -> list[int]:
        """Those that are asked for as "nat" or "tap", a colon, and options; all or none."""
        ports: list[SwitchPort] = []
        try:
            for words in request.words("uplinks"):
                kind, _, options = words.partition(":")
                ports.append(self._add_uplink(kind, options))
        except BaseException:
            for port in ports:
                del self._uplinks[port]
                self.switch.unplug(port)
            raise
        return [port.number for port in ports]

    def _add_uplink(self, kind: str, options: str) -> SwitchPort:
        uplink = make_uplink(kind, options, self._reactor, self._clock, self.switch.timers)
        try:
            port = self.switch.plug(uplink.endpoint, uplink.settings)
        except BaseException:
            uplink.endpoint.close()
            raise
        self._uplinks[port] = uplink
        return port

    def _unplug(self, request: Request) -> dict[str, Any]:
        port = self._port(request.number("port", 1 << 31))
        self.switch.unplug(port)
        if self._uplinks.pop(port, None) is not None:
            self._not_watched(port.number)
        self._save()
        return {}

    def _configure(self, request: Request) -> dict[str, Any]:
        port = self._port(request.number("port", 1 << 31))
        if isinstance(port.endpoint, Link) and port.endpoint in self._captures:
            raise ConfigError(f"port {port.number} is a capture, and has no settings")
        port.configure(changed(port.settings, request.words("options")))
        if isinstance(port.endpoint, Link):
            port.endpoint.tell_settings(port.settings)
        else:
            self._save()
        return to_dict(port.settings)

    def _stop(self, request: Request) -> dict[str, Any]:
        guests = self._guests()
        if guests and not request.flag("force"):
            ports = ", ".join(str(port.number) for port in guests)
            raise ConfigError(
                f"{len(guests)} {'guest is' if len(guests) == 1 else 'guests are'} on {self.place.name} "
                f"({'port' if len(guests) == 1 else 'ports'} {ports}): "
                "end them first, or take it from them with --force"
            )
        self.end(f"the switch {self.place.name} was deleted")
        return {"guests": len(guests)}

    # -- what outlives a crash

    def _save(self) -> None:
        """Keep what was made explicitly. It is written beside and renamed, so that it is whole."""
        if not self.created:
            return
        uplinks = [
            {"kind": one.kind, "options": one.options, "settings": to_dict(port.settings)}
            for port, one in self._uplinks.items()
        ]
        beside = self.place.state.with_suffix(".part")
        try:
            beside.write_text(json.dumps({"uplinks": uplinks}))
            beside.replace(self.place.state)
        except OSError as error:
            raise HostError(f"cannot write {self.place.state}: {error.strerror}") from None

    def _restore(self) -> None:
        try:
            uplinks = json.loads(self.place.state.read_text())["uplinks"]
            kept = [(str(one["kind"]), str(one["options"]), from_dict(one["settings"])) for one in uplinks]
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, ConfigError) as error:
            log.warning("%s says nothing of use: %s", self.place.state, error)
            return
        self.created = True
        for kind, options, settings in kept:
            try:
                self._add_uplink(kind, options).configure(settings)
            except (ConfigError, HostError) as error:
                log.warning("%s is not plugged in again: %s", kind, error)
