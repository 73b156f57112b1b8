"""Declaring protocols: which structure a message has, so that it can be shown by name.

The wire modules declare structures; a `Protocol` says which of them a message is, by a number in its
header. Everything that shows messages (logs, filters, captures, Wireshark's dissector) is made from these
declarations: declaring a message is all it takes to see it. Nothing here takes part in what a device does.

    NVSP = declare(
        Protocol(
            "nvsp",
            "Hyper-V network adapter (NVSP)",
            MessageHeader,
            "msg_type",
            {1: Form("INIT", wire.Init), ...},
            labels={"status": wire.Status},
            interfaces=(INTERFACE,),
        )
    )

What is not at a fixed place, and lists, are a form's `parts`; a number of several fields is one of the
protocol's `words`. How values are to be read (addresses, GUIDs, text) is in its `shows`.

`declaration` has what is declared, `plan` finds where each field lies, `layer` takes messages apart.
"""

from ringminus.protocol.declaration import (
    BY_INTERFACE,
    NAMES,
    PROTOCOLS,
    Bits,
    Form,
    Labels,
    Ones,
    Pages,
    Part,
    Protocol,
    Show,
    Told,
    declare,
    word,
)
from ringminus.protocol.layer import PADDING, REST, Layer, Value, dissect
from ringminus.protocol.plan import Place, Plan, laid_out
from ringminus.protocol.text import label_of, shown

__all__ = [
    "BY_INTERFACE",
    "NAMES",
    "PADDING",
    "PROTOCOLS",
    "REST",
    "Bits",
    "Form",
    "Labels",
    "Layer",
    "Ones",
    "Pages",
    "Part",
    "Place",
    "Plan",
    "Protocol",
    "Show",
    "Told",
    "Value",
    "declare",
    "dissect",
    "label_of",
    "laid_out",
    "shown",
    "word",
]
