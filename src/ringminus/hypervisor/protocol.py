"""Inputs of hypercalls, declared for who shows them: from the table of calls."""

from __future__ import annotations

from ringminus.hypervisor.calls import CALLS
from ringminus.hypervisor.wire import MessageType
from ringminus.protocol import Form, Protocol, declare

POST_MESSAGE = 0x5C

HYPERCALL = declare(
    Protocol(
        "hypercall_input",
        "Hypercall input",
        None,
        "code",
        {
            **{code: Form(call.name, call.header) for code, call in CALLS.items()},
            POST_MESSAGE: Form(
                CALLS[POST_MESSAGE].name,
                CALLS[POST_MESSAGE].header,
                inner={"payload": "vmbus"},
                lengths={"payload": "payload_size"},
            ),
        },
        {"message_type": MessageType},
    )
)
