"""Events are compared and shown by their own fields, without what the tap adds."""

from __future__ import annotations

from ringminus.events import EVENTS, Interrupt, PortIo, SynicMessage


def test_events_are_equal_by_what_happened_and_not_by_their_place_in_a_recording() -> None:
    one = Interrupt(5, 0, 0xF3, "sint2", sequence=1, cause=7, host_ns=3)
    assert one == Interrupt(5, 0, 0xF3, "sint2")
    assert one != Interrupt(5, 0, 0xF4, "sint2")
    assert one != PortIo(5, 0, 0xF3, 1, False, 0)
    assert one != 5


def test_events_are_shown_with_all_their_fields() -> None:
    assert repr(SynicMessage(5, 0, 2, 1, b"a", True)) == (
        "SynicMessage(time=5, vp=0, sequence=0, cause=0, host_ns=0, changed='', "
        "sint=2, message_type=1, payload=b'a', delivered=True)"
    )


def test_each_event_has_a_name_a_point_and_a_description_of_its_own() -> None:
    assert len({one.NAME for one in EVENTS}) == len({one.POINT for one in EVENTS}) == len(EVENTS)
    assert all(one.__doc__ and "__dict__" not in dir(one) for one in EVENTS)
