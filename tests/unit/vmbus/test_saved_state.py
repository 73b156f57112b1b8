"""A control plane that was saved goes on as if nothing had been."""

from __future__ import annotations

import pytest

from ringminus.vmbus.control.plane import ControlPlane
from support.bus_script import MEMORY, Script, connected, opened

MODIFY, PAUSE, SIGNALS, CLIENT = 4, 0x20, 1, 8
OPENING = """
    >> CLOSE_CHANNEL child_relid=1
    << Closed disk
    >> OPEN_CHANNEL child_relid=1 openid=3 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
    << OpenRequested disk
"""
RESERVED = """
    >> CLOSE_CHANNEL child_relid=1
    << Closed disk
    >> OPEN_RESERVED_CHANNEL child_relid=1 target_vp=1 target_sint=5 ringbuffer_gpadlhandle=0x10 \
       downstream_ringbuffer_pageoffset=4
    << OpenRequested disk
"""
UNLOADED = """
    >> UNLOAD
    << Unloaded
    << UNLOAD_RESPONSE
"""


def plain(data: object) -> bool:
    if isinstance(data, dict):
        return all(type(key) is str and plain(value) for key, value in data.items())
    if isinstance(data, list):
        return all(map(plain, data))
    return data is None or type(data) in (int, bool, str, bytes)


@pytest.mark.parametrize(
    ("make", "before", "after"),
    [
        (Script, "-- offer disk", ">> INITIATE_CONTACT version=5.3\n<< Connected\n<< VERSION_RESPONSE"),
        (
            connected,
            ">> GPADL_HEADER child_relid=1 gpadl=1 range_buflen=24 ranges=8192@0:1",
            ">> GPADL_BODY gpadl=1 pages=2\n<< GpadlCreated disk\n<< GPADL_CREATED creation_status=0",
        ),
        (opened, "", ">> MODIFY_CHANNEL child_relid=1\n<< Retargeted disk\n<< MODIFY_CHANNEL_RESPONSE"),
        (
            opened,
            ">> GPADL_TEARDOWN child_relid=1 gpadl=0x10\n!! GPADL in use",
            ">> CLOSE_CHANNEL child_relid=1\n<< Closed disk\n<< GpadlTornDown disk\n<< GPADL_TORNDOWN",
        ),
        (opened, OPENING, "-- accept disk\n<< OPEN_CHANNEL_RESULT openid=3 status=0"),
        (
            opened,
            "-- subchannel disk 1\n<< OFFER_CHANNEL",
            ">> CLOSE_CHANNEL child_relid=1\n<< Closed disk\n<< RESCIND_OFFER child_relid=2",
        ),
        (
            opened,
            "-- rescind disk\n<< RESCIND_OFFER",
            ">> CLOSE_CHANNEL child_relid=1\n<< Closed disk\n>> RELID_RELEASED child_relid=1\n"
            "<< GpadlTornDown disk\n<< Released disk\n-- offer net\n<< OFFER_CHANNEL child_relid=1",
        ),
        (opened, RESERVED, "-- accept disk\n<< OPEN_CHANNEL_RESULT status=0 to_vp=1 to_sint=5"),
        (
            opened,
            RESERVED + "-- accept disk\n<< OPEN_CHANNEL_RESULT\n" + UNLOADED,
            ">> CLOSE_RESERVED_CHANNEL child_relid=1 target_sint=2\n<< Closed disk\n<< GpadlTornDown disk\n"
            "<< CLOSE_RESERVED_RESPONSE",
        ),
        (
            lambda: connected("6.0", features=PAUSE),
            ">> PAUSE\n<< PAUSE_RESPONSE\n<< Paused\n-- offer net",
            ">> RESUME\n<< Resumed\n<< OFFER_CHANNEL if_instance=net",
        ),
        (
            lambda: connected("6.0", features=MODIFY),
            ">> MODIFY_CONNECTION parent_to_child_monitor_page=0x1000 child_to_parent_monitor_page=0x2000\n"
            "<< MonitorPages\n<< MODIFY_CONNECTION_RESPONSE",
            "-- offer net monitor_id=1\n<< OFFER_CHANNEL monitor_allocated=1",
        ),
        (
            lambda: opened("6.0", features=SIGNALS | CLIENT, offers=("disk", "net")),
            "",
            ">> GPADL child_relid=2 gpadl=0x20 pages=0-7\n<< GpadlCreated net\n<< GPADL_CREATED\n"
            ">> OPEN_CHANNEL child_relid=2 ringbuffer_gpadlhandle=0x20 downstream_ringbuffer_pageoffset=4 "
            "connection_id=0x2001\n!! bad connection id or event flag\n<< OPEN_CHANNEL_RESULT child_relid=2",
        ),
    ],
    ids=[
        "nobody connected", "a half-built GPADL", "an open channel", "a ring to be given back",
        "an opening channel", "a sub-channel", "a rescinded channel", "an opening reserved channel",
        "an orphaned reserved channel", "paused", "monitor pages", "connection ids",
    ],
)  # fmt: skip
def test_it_goes_on_as_if_nothing_had_been(make: object, before: str, after: str) -> None:
    script: Script = make()  # type: ignore[operator]
    script.play(before)
    state = script.control.save()
    assert plain(state)

    control = ControlPlane(MEMORY.is_ram, 4)
    control.restore(state)
    assert control.save() == state
    again = Script(control)
    again.keys = dict(script.keys)
    again.play(after)
    script.play(after)
    assert control.save() == script.control.save()


def test_names_of_offers_are_not_used_again_after_a_restore() -> None:
    script = connected().play(
        """
        -- rescind disk
        << RESCIND_OFFER
        >> RELID_RELEASED child_relid=1
        << Released disk
        """
    )
    control = ControlPlane(MEMORY.is_ram, 4)
    control.restore(script.control.save())
    again = Script(control).play("-- offer net\n<< OFFER_CHANNEL")
    assert again.keys["net"] != script.keys["disk"]


def test_who_the_guest_is_survives() -> None:
    script = connected("6.0", features=CLIENT)
    control = ControlPlane(MEMORY.is_ram, 4)
    control.restore(script.control.save())
    assert control.client_id == script.control.client_id
    assert (control.state, control.version, control.features, control.target_vp) == (
        script.control.state,
        script.control.version,
        script.control.features,
        script.control.target_vp,
    )
