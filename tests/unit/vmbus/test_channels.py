"""Opening, closing and retargeting channels. See `support.bus_script`."""

from __future__ import annotations

import pytest

from support.bus_script import connected, opened

SIGNALS, REDIRECT = 1, 2


def test_a_whole_life() -> None:
    opened().play(
        """
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        >> GPADL_TEARDOWN child_relid=1 gpadl=0x10
        << GpadlTornDown disk handle=0x10
        << GPADL_TORNDOWN gpadl=0x10
        >> GPADL child_relid=1 gpadl=0x11 pages=0-3
        << GpadlCreated disk handle=0x11
        << GPADL_CREATED creation_status=0
        >> OPEN_CHANNEL child_relid=1 openid=7 ringbuffer_gpadlhandle=0x11 downstream_ringbuffer_pageoffset=1
        << OpenRequested disk open_id=7 gpadl=0x11 downstream_offset_pages=1 target_vp=0
        -- accept disk
        << OPEN_CHANNEL_RESULT child_relid=1 openid=7 status=0
        """
    )


def test_what_an_open_asks_for() -> None:
    connected().play(
        """
        >> GPADL child_relid=1 gpadl=0x10 pages=100-107
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        >> OPEN_CHANNEL child_relid=1 openid=5 ringbuffer_gpadlhandle=0x10 target_vp=3 \
           downstream_ringbuffer_pageoffset=4
        << OpenRequested disk relid=1 open_id=5 gpadl=0x10 downstream_offset_pages=4 target_vp=3 \
           connection_id=0x2001 event_flag=1 redirect=no
        """
    )


def test_a_guest_may_want_no_interrupts() -> None:
    opened().play(
        """
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        >> OPEN_CHANNEL child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4 \
           target_vp=0xffffffff
        << OpenRequested disk target_vp=none
        -- accept disk
        << OPEN_CHANNEL_RESULT status=0
        >> MODIFY_CHANNEL child_relid=1 target_vp=1
        !! interrupts are off
        << MODIFY_CHANNEL_RESPONSE status=UNSUCCESSFUL
        """
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("child_relid=2", "unknown relid"),
        ("child_relid=1", "unknown GPADL"),
        ("child_relid=1 ringbuffer_gpadlhandle=0x20", "unknown GPADL"),
        ("child_relid=1 ringbuffer_gpadlhandle=0x10", "bad ring"),
        ("child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=8", "bad ring"),
        ("child_relid=1 ringbuffer_gpadlhandle=0x11 downstream_ringbuffer_pageoffset=1", "bad ring"),
        ("child_relid=1 ringbuffer_gpadlhandle=0x12 downstream_ringbuffer_pageoffset=1", "bad ring"),
        (
            "child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4 target_vp=4",
            "no such processor, SINT or VTL",
        ),
    ],
    ids=["relid", "none", "half-built", "no offset", "far", "two ranges", "unaligned", "processor"],
)
def test_what_cannot_be_opened_is_answered_with_failure(fields: str, reason: str) -> None:
    relid = fields.split()[0]
    connected().play(
        f"""
        >> GPADL child_relid=1 gpadl=0x10 pages=0-7
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        >> GPADL child_relid=1 gpadl=0x11 ranges=4096@0:1;4096@0:2
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        >> GPADL child_relid=1 gpadl=0x12 ranges=8192@16:1-3
        << GpadlCreated disk
        << GPADL_CREATED creation_status=0
        >> GPADL_HEADER child_relid=1 gpadl=0x20 range_buflen=64 pages=1
        >> OPEN_CHANNEL openid=9 {fields}
        !! {reason}
        << OPEN_CHANNEL_RESULT {relid} openid=9 status=UNSUCCESSFUL
        """
    )


def test_a_channel_does_not_open_with_the_ring_of_another() -> None:
    opened(offers=("disk", "net")).play(
        """
        >> OPEN_CHANNEL child_relid=2 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        !! unknown GPADL
        << OPEN_CHANNEL_RESULT child_relid=2 status=UNSUCCESSFUL
        """
    )


def test_an_open_channel_is_not_opened_again() -> None:
    opened().play(
        """
        >> OPEN_CHANNEL child_relid=1 openid=2 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        !! open already
        << OPEN_CHANNEL_RESULT child_relid=1 openid=2 status=UNSUCCESSFUL
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        >> OPEN_CHANNEL child_relid=1 openid=3 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        << OpenRequested disk open_id=3
        >> OPEN_CHANNEL child_relid=1 openid=4 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        !! open already
        << OPEN_CHANNEL_RESULT child_relid=1 openid=4 status=UNSUCCESSFUL
        """
    )


def test_a_device_may_refuse_and_be_asked_again() -> None:
    opened().play(
        """
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        >> OPEN_CHANNEL child_relid=1 openid=2 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        << OpenRequested disk
        -- refuse disk
        !! refused by the device
        << OPEN_CHANNEL_RESULT child_relid=1 openid=2 status=UNSUCCESSFUL
        -- accept disk    # too late
        >> OPEN_CHANNEL child_relid=1 openid=3 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        << OpenRequested disk open_id=3
        """
    )


def test_a_channel_may_be_closed_while_it_opens() -> None:
    opened().play(
        """
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        >> OPEN_CHANNEL child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4
        << OpenRequested disk
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        -- accept disk
        """
    )


def test_what_is_not_open_is_not_closed() -> None:
    connected().play(
        """
        >> CLOSE_CHANNEL child_relid=1
        !! not open
        >> CLOSE_CHANNEL child_relid=2
        !! unknown relid
        """
    )


# ------------------------------------------------------------ MODIFY_CHANNEL


@pytest.mark.parametrize("version", ["4.1", "5.0", "5.1", "5.2"])
def test_before_5_3_a_retargeted_channel_is_not_confirmed(version: str) -> None:
    opened(version).play(
        """
        >> MODIFY_CHANNEL child_relid=1 target_vp=2
        << Retargeted disk target_vp=2
        >> MODIFY_CHANNEL child_relid=1 target_vp=4
        !! no such processor, SINT or VTL
        """
    )


@pytest.mark.parametrize("version", ["5.3", "6.0"])
def test_from_5_3_on_the_guest_waits_for_an_answer_and_gets_one_whatever_it_asks(version: str) -> None:
    opened(version, offers=("disk", "net")).play(
        """
        >> MODIFY_CHANNEL child_relid=1 target_vp=2
        << Retargeted disk target_vp=2
        << MODIFY_CHANNEL_RESPONSE child_relid=1 status=0
        >> MODIFY_CHANNEL child_relid=1 target_vp=4
        !! no such processor, SINT or VTL
        << MODIFY_CHANNEL_RESPONSE child_relid=1 status=UNSUCCESSFUL
        >> MODIFY_CHANNEL child_relid=1 target_vp=0xffffffff
        !! no such processor, SINT or VTL
        << MODIFY_CHANNEL_RESPONSE child_relid=1 status=UNSUCCESSFUL
        >> MODIFY_CHANNEL child_relid=2
        !! not open
        << MODIFY_CHANNEL_RESPONSE child_relid=2 status=UNSUCCESSFUL
        >> MODIFY_CHANNEL child_relid=3
        !! unknown relid
        << MODIFY_CHANNEL_RESPONSE child_relid=3 status=UNSUCCESSFUL
        """
    )


@pytest.mark.parametrize("version", ["2.4", "3.0", "4.0"])
def test_before_4_1_there_is_no_modify_channel(version: str) -> None:
    opened(version).play(
        """
        >> MODIFY_CHANNEL child_relid=1 target_vp=2
        !! not in this version
        """
    )


# ------------------------------------------------------------ what 6.0 adds to OPEN_CHANNEL


def test_a_guest_of_6_0_may_choose_how_the_two_signal_each_other() -> None:
    opened("6.0", features=SIGNALS | REDIRECT, offers=("disk", "net")).play(
        """
        >> GPADL child_relid=2 gpadl=0x20 pages=0-7
        << GpadlCreated net
        << GPADL_CREATED creation_status=0
        >> OPEN_CHANNEL child_relid=2 ringbuffer_gpadlhandle=0x20 downstream_ringbuffer_pageoffset=4 \
           connection_id=0x4711 event_flag=77 flags=1
        << OpenRequested net connection_id=0x4711 event_flag=77 redirect=yes
        """
    )


def test_a_guest_that_chooses_nothing_has_what_the_offer_says() -> None:
    opened("6.0", features=SIGNALS).play(
        """
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        >> OPEN_CHANNEL child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4 flags=1
        << OpenRequested disk connection_id=0x2001 event_flag=1 redirect=no
        """
    )


def test_choices_do_not_count_if_they_were_not_agreed_on() -> None:
    opened("6.0", features=REDIRECT).play(
        """
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        >> OPEN_CHANNEL child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4 \
           connection_id=0x4711 event_flag=77
        << OpenRequested disk connection_id=0x2001 event_flag=1
        """
    )


@pytest.mark.parametrize(
    "choice",
    ["connection_id=4", "connection_id=0x1000000", "connection_id=0x2001", "connection_id=9 event_flag=2048"],
    ids=["the bus's own", "more than 24 bits", "another channel's", "no such flag"],
)
def test_choices_are_checked(choice: str) -> None:
    opened("6.0", features=SIGNALS, offers=("disk", "net")).play(
        f"""
        >> GPADL child_relid=2 gpadl=0x20 pages=0-7
        << GpadlCreated net
        << GPADL_CREATED creation_status=0
        >> OPEN_CHANNEL child_relid=2 ringbuffer_gpadlhandle=0x20 downstream_ringbuffer_pageoffset=4 {choice}
        !! bad connection id or event flag
        << OPEN_CHANNEL_RESULT child_relid=2 status=UNSUCCESSFUL
        """
    )


def test_a_channel_whose_connection_id_another_has_chosen_chooses_another() -> None:
    opened("6.0", features=SIGNALS, offers=("disk", "net")).play(
        """
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        >> OPEN_CHANNEL child_relid=1 ringbuffer_gpadlhandle=0x10 downstream_ringbuffer_pageoffset=4 \
           connection_id=0x2002
        << OpenRequested disk connection_id=0x2002
        >> GPADL child_relid=2 gpadl=0x20 pages=0-7
        << GpadlCreated net
        << GPADL_CREATED creation_status=0
        >> OPEN_CHANNEL child_relid=2 ringbuffer_gpadlhandle=0x20 downstream_ringbuffer_pageoffset=4
        !! bad connection id or event flag
        << OPEN_CHANNEL_RESULT child_relid=2 status=UNSUCCESSFUL
        >> OPEN_CHANNEL child_relid=2 ringbuffer_gpadlhandle=0x20 downstream_ringbuffer_pageoffset=4 \
           connection_id=0x2001
        << OpenRequested net connection_id=0x2001
        """
    )


@pytest.mark.parametrize("version", ["2.4", "4.0", "5.3"])
def test_a_long_open_before_6_0_is_an_open_with_something_after_it(version: str) -> None:
    script = opened(version)
    fields = {"child_relid": "1", "openid": "2", "ringbuffer_gpadlhandle": "0x10"}
    (payload,) = script.payloads("OPEN_CHANNEL", fields | {"downstream_ringbuffer_pageoffset": "4"})
    script.play(
        """
        >> CLOSE_CHANNEL child_relid=1
        << Closed disk
        """
    )
    (asked,) = script.control.receive(payload.ljust(240, b"\xff"))
    assert asked.request.connection_id == 0x2001  # type: ignore[union-attr]
