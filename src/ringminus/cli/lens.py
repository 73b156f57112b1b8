"""`ringminus lens`: the boundary between a guest and its host, made visible."""

from __future__ import annotations

import click

from ringminus.cli.lazy import LazyGroup

COMMANDS = {
    "fields": "ringminus.cli.lens_list:fields",
    "hooks": "ringminus.cli.lens_hooks:hooks",
    "list": "ringminus.cli.lens_list:list_",
    "show": "ringminus.cli.lens_show:show",
    "stats": "ringminus.cli.lens_stats:stats",
    "tree": "ringminus.cli.lens_show:tree",
    "tui": "ringminus.cli.lens_tui:tui",
    "watch": "ringminus.cli.lens_show:watch",
    "wireshark": "ringminus.cli.lens_wireshark:wireshark",
}


@click.group(name="lens", cls=LazyGroup, lazy=COMMANDS)
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="MODULE[:CLASS]",
    help="A device of your own (ringminus run --device), whose module declares its messages.",
)
def lens(devices: tuple[str, ...]) -> None:
    """Look at what a guest and its host say to each other.

    Guests that run are watched by name (ringminus run --name NAME); what was recorded with ringminus run
    --capture FILE is read again. Only your own guests can be watched.

    \b
    Examples:
      ringminus lens list                                   guests that run
      ringminus lens watch root 'scsi.op == write_10'       as it happens
      ringminus lens show boot.pcapng 'bus or hypercall'    from a file
      ringminus lens tree root scsi                         the way of each disk request, with times
      ringminus lens tui boot.pcapng                        look through it in the terminal
      ringminus lens stats root                             what it costs
      ringminus lens fields scsi                            what filters can name
    """
    for text in devices:
        from ringminus.cli.devices import load_module

        load_module(text.rpartition(":")[0] or text, text)
