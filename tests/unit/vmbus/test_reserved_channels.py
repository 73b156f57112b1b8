"""Reserved channels stay open over connections and answer where they were asked from."""

from __future__ import annotations

import pytest

from ringminus.vmbus.wire import MESSAGE_SINT
from support.bus_script import Script, connected, opened


def reserved(version: str = "5.3", *, offers: tuple[str, ...] = ("disk",)) -> Script:
    """The first offer is open as a reserved channel of processor 3, SINT 5."""
    return connected(version, offers=offers).play(
        """
        >> GPADL child_relid=1 gpadl=0x10 pages=0-7
        << GpadlCreated disk handle=0x10
        << GPADL_CREATED creation_status=0
        >> OPEN_RESERVED_CHANNEL child_relid=1 target_vp=3 target_sint=5 ringbuffer_gpadlhandle=0x10 \
           downstream_ringbuffer_pageoffset=4
        << OpenRequested disk relid=1 open_id=0 gpadl=0x10 target_vp=none connection_id=0x2001
        -- accept disk
        << OPEN_CHANNEL_RESULT child_relid=1 status=0 to_vp=3 to_sint=5
        """
    )


@pytest.mark.parametrize("version", ["4.0", "5.3", "6.0"])
def test_a_whole_life(version: str) -> None:
    reserved(version).play(
        """
        >> CLOSE_RESERVED_CHANNEL child_relid=1 target_vp=2 target_sint=6
        << Closed disk
        << CLOSE_RESERVED_RESPONSE child_relid=1 to_vp=2 to_sint=6
        >> GPADL_TEARDOWN child_relid=1 gpadl=0x10
        << GpadlTornDown disk handle=0x10
        << GPADL_TORNDOWN gpadl=0x10
        """
    )


def test_it_stays_open_when_the_guest_unloads_and_may_be_closed_then() -> None:
    reserved(offers=("disk", "net")).play(
        """
        >> UNLOAD
        << Unloaded
        << UNLOAD_RESPONSE
        >> CLOSE_RESERVED_CHANNEL child_relid=1 target_sint=2
        << Closed disk
        << GpadlTornDown disk handle=0x10
        << CLOSE_RESERVED_RESPONSE child_relid=1 to_vp=0 to_sint=2
        >> CLOSE_RESERVED_CHANNEL child_relid=1 target_sint=2
        !! unknown relid
        """
    )


def test_another_kernel_gets_it_offered_when_it_is_closed() -> None:
    reserved(offers=("disk", "net")).play(
        """
        >> INITIATE_CONTACT version=5.3
        << Connected
        << VERSION_RESPONSE
        >> REQUEST_OFFERS
        << OFFER_CHANNEL if_instance=net child_relid=2
        << ALL_OFFERS_DELIVERED
        >> GPADL child_relid=2 gpadl=0x10 pages=1    # the handle is free in this connection
        << GpadlCreated net handle=0x10
        << GPADL_CREATED creation_status=0
        >> CLOSE_RESERVED_CHANNEL child_relid=1 target_sint=2
        << Closed disk
        << GpadlTornDown disk handle=0x10
        << OFFER_CHANNEL if_instance=disk child_relid=1
        << CLOSE_RESERVED_RESPONSE child_relid=1
        """
    )


def test_ordinary_messages_do_not_touch_it() -> None:
    reserved().play(
        """
        >> CLOSE_CHANNEL child_relid=1
        !! reserved channel
        >> GPADL child_relid=1 gpadl=0x20 pages=1
        !! reserved channel
        << GPADL_CREATED creation_status=UNSUCCESSFUL
        >> GPADL_TEARDOWN child_relid=1 gpadl=0x10
        !! reserved channel
        >> MODIFY_CHANNEL child_relid=1 target_vp=1
        !! reserved channel
        << MODIFY_CHANNEL_RESPONSE status=UNSUCCESSFUL
        >> RELID_RELEASED child_relid=1
        !! still open
        >> OPEN_CHANNEL child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        !! open already
        << OPEN_CHANNEL_RESULT status=UNSUCCESSFUL
        """
    )


def test_messages_for_it_do_not_touch_ordinary_channels() -> None:
    opened().play(
        """
        >> CLOSE_RESERVED_CHANNEL child_relid=1 target_sint=2
        !! not a reserved channel
        >> CLOSE_RESERVED_CHANNEL child_relid=2 target_sint=2
        !! unknown relid
        >> OPEN_RESERVED_CHANNEL child_relid=1 target_sint=2 ringbuffer_gpadlhandle=0x10 \
           downstream_ringbuffer_pageoffset=4
        !! open already
        << OPEN_CHANNEL_RESULT status=UNSUCCESSFUL to_sint=2
        """
    )


@pytest.mark.parametrize(
    ("fields", "reason", "target"),
    [
        ("child_relid=2 target_vp=1 target_sint=2", "unknown relid", "to_vp=1 to_sint=2"),
        ("child_relid=1 target_vp=1 target_sint=2", "unknown GPADL", "to_vp=1 to_sint=2"),
        ("child_relid=1 target_vp=4 target_sint=2", "no such processor, SINT or VTL", ""),
        ("child_relid=1 target_vp=1 target_sint=16", "no such processor, SINT or VTL", ""),
    ],
)
def test_what_cannot_be_opened_is_answered_with_failure(fields: str, reason: str, target: str) -> None:
    connected().play(
        f"""
        >> OPEN_RESERVED_CHANNEL {fields}
        !! {reason}
        << OPEN_CHANNEL_RESULT status=UNSUCCESSFUL {target}
        """
    )


def test_a_close_that_names_no_target_is_not_done() -> None:
    reserved().play(
        """
        >> CLOSE_RESERVED_CHANNEL child_relid=1 target_vp=4 target_sint=2
        !! no such processor, SINT or VTL
        >> CLOSE_RESERVED_CHANNEL child_relid=1 target_vp=0 target_sint=16
        !! no such processor, SINT or VTL
        """
    )


def test_a_device_may_refuse_it() -> None:
    connected().play(
        """
        >> GPADL child_relid=1 gpadl=0x10 pages=0-7
        << GpadlCreated disk handle=0x10
        << GPADL_CREATED creation_status=0
        >> OPEN_RESERVED_CHANNEL child_relid=1 target_vp=3 target_sint=5 ringbuffer_gpadlhandle=0x10 \
           downstream_ringbuffer_pageoffset=4
        << OpenRequested disk
        >> CLOSE_RESERVED_CHANNEL child_relid=1 target_sint=2
        !! not open
        >> UNLOAD
        << Unloaded
        << UNLOAD_RESPONSE
        -- refuse disk
        !! refused by the device
        << OPEN_CHANNEL_RESULT status=UNSUCCESSFUL to_vp=3 to_sint=5
        << GpadlTornDown disk handle=0x10
        """
    )


def test_a_half_built_gpadl_does_not_survive_with_it() -> None:
    connected().play(
        """
        >> GPADL child_relid=1 gpadl=0x10 pages=0-7
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        >> GPADL_HEADER child_relid=1 gpadl=0x11 range_buflen=24 ranges=8192@0:1
        >> OPEN_RESERVED_CHANNEL child_relid=1 target_sint=2 ringbuffer_gpadlhandle=0x10 \
           downstream_ringbuffer_pageoffset=4
        << OpenRequested disk
        -- accept disk
        << OPEN_CHANNEL_RESULT status=0
        >> INITIATE_CONTACT version=5.3
        << Connected
        << VERSION_RESPONSE
        >> GPADL_BODY gpadl=0x11 pages=2
        !! unknown GPADL
        """
    )


# ------------------------------------------------------------ rescind


def test_a_rescinded_one_is_open_until_it_is_closed() -> None:
    reserved().play(
        """
        -- rescind disk
        << RESCIND_OFFER child_relid=1
        >> OPEN_RESERVED_CHANNEL child_relid=1 target_sint=2
        !! rescinded
        >> CLOSE_RESERVED_CHANNEL child_relid=1 target_sint=2
        << Closed disk
        << CLOSE_RESERVED_RESPONSE
        >> RELID_RELEASED child_relid=1
        << GpadlTornDown disk
        << Released disk
        """
    )


def test_one_that_is_opening_fails_when_it_is_rescinded() -> None:
    connected().play(
        """
        >> GPADL child_relid=1 gpadl=0x10 pages=0-7
        << GpadlCreated disk handle=0x10
        << GPADL_CREATED creation_status=0
        >> OPEN_RESERVED_CHANNEL child_relid=1 target_vp=3 target_sint=5 ringbuffer_gpadlhandle=0x10 \
           downstream_ringbuffer_pageoffset=4
        << OpenRequested disk
        -- rescind disk
        << OPEN_CHANNEL_RESULT status=UNSUCCESSFUL to_vp=3 to_sint=5
        << Closed disk
        << RESCIND_OFFER child_relid=1
        """
    )


def test_one_whose_connection_is_gone_is_rescinded_without_a_word() -> None:
    reserved().play(
        """
        >> INITIATE_CONTACT version=5.3
        << Connected
        << VERSION_RESPONSE
        -- rescind disk
        >> UNLOAD
        << Unloaded
        << UNLOAD_RESPONSE
        >> CLOSE_RESERVED_CHANNEL child_relid=1 target_sint=2
        << Closed disk
        << GpadlTornDown disk
        << Released disk
        << CLOSE_RESERVED_RESPONSE
        """
    )


def test_a_rescinded_one_survives_the_connection_too() -> None:
    reserved().play(
        """
        -- rescind disk
        << RESCIND_OFFER child_relid=1
        >> INITIATE_CONTACT version=5.3
        << Connected
        << VERSION_RESPONSE
        >> RELID_RELEASED child_relid=1    # it is not this guest's
        !! unknown relid
        >> CLOSE_RESERVED_CHANNEL child_relid=1 target_sint=2
        << Closed disk
        << GpadlTornDown disk
        << Released disk
        << CLOSE_RESERVED_RESPONSE
        """
    )


def test_reserved_channels_came_with_4_0() -> None:
    connected("3.0").play(
        f"""
        >> OPEN_RESERVED_CHANNEL child_relid=1 target_sint={MESSAGE_SINT}
        !! not in this version
        """
    )
