"""The bus's control messages, declared for who shows them: from the table that the control plane works by."""

from __future__ import annotations

from ringminus.protocol import NAMES, Form, Labels, declare
from ringminus.protocol import Protocol as Declaration
from ringminus.vmbus.control.messages import MESSAGES, MessageKind
from ringminus.vmbus.wire import ChannelFlag, Feature, MessageHeader, PacketType, PipeMode, Version

LABELS: Labels = {
    "vmbus_version_requested": Version,
    "feature_flags": Feature,
    "supported_features": Feature,
    "chn_flags": ChannelFlag,
    "pipe_mode": PipeMode,
}


def _forms(kind: MessageKind) -> tuple[Form, ...]:
    return tuple(
        Form(kind.name, form.structure, whole=True, to_guest=not kind.from_guest) for form in kind.forms
    )


VMBUS = declare(
    Declaration(
        "vmbus",
        "VMBus control message",
        MessageHeader,
        "msgtype",
        {number: _forms(kind) for number, kind in MESSAGES.items()},
        LABELS,
    )
)

NAMES["packet.kind"] = {one.value: one.name for one in PacketType}
