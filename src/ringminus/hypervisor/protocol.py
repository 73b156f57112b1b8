"""Hypercalls and registers, declared for who shows them: from the tables that they are answered by."""

from __future__ import annotations

from ringminus.hypervisor.calls import CALLS
from ringminus.hypervisor.msrs import MSRS
from ringminus.hypervisor.wire import MessageType
from ringminus.protocol import NAMES, Form, Protocol, declare

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

NAMES["hypercall.code"] = {code: call.name for code, call in CALLS.items()}
NAMES["msr.msr"] = {number: msr.name for number, msr in MSRS.items()}
NAMES["message.message_type"] = {one.value: one.name for one in MessageType}
