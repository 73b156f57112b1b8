"""Events are taken apart by what had passed before them, whatever was looked at last."""

from __future__ import annotations

import ringminus.devices.storage.protocol
import ringminus.hypervisor.protocol
import ringminus.vmbus.protocol  # noqa: F401
from ringminus.lens.tui.dissection import Dissection
from ringminus.lens.tui.store import Store
from ringminus.tap import Event, EventSignal
from support.lens_events import PER_REQUEST, opened, request, requests


def looked_at(events: list[Event]) -> Dissection:
    store = Store()
    dissection = Dissection(store)
    for event in events:
        dissection.see(store.count, event)
        store.append(event)
    return dissection


def line(dissection: Dissection, position: int) -> str:
    shown = dissection.at(position)
    assert shown is not None
    return " ".join(shown.line().plain.split())


def test_a_completion_is_taken_apart_by_its_request_though_that_was_not_looked_at() -> None:
    dissection = looked_at(requests(3))
    shown = dissection.at(1 + 2 * PER_REQUEST + 3)
    assert shown is not None
    assert shown.layers[1].get("srb_status") == 1, "which is only known of an answer to EXECUTE_SRB"


def test_a_signal_names_the_device_that_had_its_channel_then() -> None:
    events = [opened(device="SCSI 0"), *request(2, 0), opened(device="NIC 0", sequence=9)]
    events += [EventSignal(99, 0, 2, 1, True, sequence=10)]
    dissection = looked_at(events)
    assert "NIC 0 event signal" in line(dissection, len(events) - 1)
    assert "SCSI 0 event signal" in line(dissection, 5)
    assert "NIC 0 event signal" in line(dissection, len(events) - 1)


def test_channels_that_open_and_close_for_ever_are_remembered_once() -> None:
    dissection = looked_at([opened(sequence=number) for number in range(1, 1000)])
    assert len(dissection._naming) == 1
    assert [one.device for one in dissection.channels()] == ["SCSI 0"]


def test_what_is_not_kept_is_not_there() -> None:
    assert looked_at([]).at(0) is None
