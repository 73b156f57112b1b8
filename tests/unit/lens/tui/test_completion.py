"""Filters are completed part by part."""

from __future__ import annotations

import ringminus.cli.protocols  # noqa: F401
from ringminus.lens.tui.completion import complete


def test_a_name_is_completed_to_what_all_candidates_begin_with() -> None:
    found = complete("scsi.op == write_10 and vmbus.cha")
    assert (found.start, found.common) == (24, "vmbus.channel.")


def test_only_the_next_part_of_a_name_is_offered() -> None:
    found = complete("pack")
    assert {"packet", "packet."} <= set(found.candidates)
    assert not any("." in one.rstrip(".") for one in found.candidates)


def test_behind_a_comparison_the_names_of_values_are_offered() -> None:
    found = complete("hypercall.code == signal_e")
    assert found.common == "signal_event"


def test_what_nothing_begins_with_is_not_completed() -> None:
    assert complete("nosuchfield").candidates == []
    assert complete("nosuchfield").common == ""
