"""Arbitrary messages in arbitrary orders: only typed errors come out, and the bus goes on."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from ringminus.errors import GuestError
from ringminus.vmbus.control import ControlPlane
from ringminus.vmbus.messages import MESSAGES
from ringminus.vmbus.wire import PAYLOAD_LIMIT

messages = st.builds(
    lambda number, body: struct.pack("<II", number, 0) + body,
    st.integers(0, 31) | st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=250),
) | st.binary(max_size=250)


@given(st.lists(messages, max_size=20))
def test_any_sequence_of_messages_gives_answers_or_typed_errors(sequence: list[bytes]) -> None:
    control = ControlPlane()
    for message in sequence:
        try:
            answers = control.receive(message)
        except GuestError:
            continue
        for answer in answers:
            kind = MESSAGES[struct.unpack_from("<I", answer)[0]]
            assert not kind.from_guest
            assert len(answer) <= PAYLOAD_LIMIT
