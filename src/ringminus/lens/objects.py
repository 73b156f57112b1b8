"""Events as plain objects for programs: what `--json` prints, one in a line.

    {"event": "packet", "time": 1.5, "vp": 0, "sequence": 7, "cause": 5, "host_ns": …, "partition": "root",
     "fields": {"relid": 3, …}, "channel": {"device": "SCSI 0", "driver": "storvsc", …},
     "messages": [{"protocol": "vstor", "message": "EXECUTE_SRB",
                   "fields": {"operation": 3, …}, "names": {"operation": "EXECUTE_SRB", …}}, …]}

Bytes are in hexadecimal. `names` has the names of values that have one, and addresses and texts as they are
read. What an event does not have is left out.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any
from uuid import UUID

from ringminus.clock import REFERENCE_HZ
from ringminus.lens.decode import flat
from ringminus.lens.drivers import DRIVERS
from ringminus.protocol import NAMES, PROTOCOLS, Layer
from ringminus.tap import ChannelState, Event

COMMON = ("time", "vp", "sequence", "cause", "host_ns", "changed")


def plain(value: object) -> Any:
    """A value as JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, UUID) else value


def as_object(
    event: Event, layers: list[Layer], channel: ChannelState | None = None, partition: str = ""
) -> dict[str, Any]:
    """The event; `layers` are what it was taken apart into, `channel` is the one it is about."""
    found: dict[str, Any] = {"event": event.NAME, "time": event.time / REFERENCE_HZ}
    found |= {name: getattr(event, name) for name in COMMON[1:-1]}
    if event.changed:
        found["changed"] = event.changed
    if partition:
        found["partition"] = partition
    names = [one.name for one in fields(event) if one.name not in COMMON]
    found["fields"] = {name: plain(getattr(event, name)) for name in names}
    labels = {
        name: label
        for name in names
        if (label := NAMES.get(f"{event.NAME}.{name}", {}).get(getattr(event, name)))
    }
    if labels:
        found["names"] = labels
    if channel is not None:
        found["channel"] = _channel(channel)
    messages = [_message(layer) for layer in flat(layers[1:])]
    if messages:
        found["messages"] = messages
    return found


def _channel(channel: ChannelState) -> dict[str, Any]:
    driver = DRIVERS.get(channel.interface)
    found = {"device": channel.device, "relid": channel.relid, "index": channel.channel}
    return found | {"driver": driver[0]} if driver else found


def _message(layer: Layer) -> dict[str, Any]:
    values = layer.values
    shown: dict[str, Any] = {one.name: plain(one.value) for one in values}
    protocol = PROTOCOLS.get(layer.protocol)
    if protocol is not None and protocol.selector and layer.message:
        shown = {protocol.selector: layer.number} | shown
    found: dict[str, Any] = {"protocol": layer.protocol, "message": layer.message, "fields": shown}
    names = {one.name: one.text for one in values if one.label or one.show is not None}
    if names:
        found["names"] = names
    if layer.missing:
        found["missing"] = layer.missing
    return found
