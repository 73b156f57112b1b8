"""`ringminus switch`: looking at named switches, and changing them."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ringminus.errors import ConfigError, HostError, RingminusError

if TYPE_CHECKING:
    from ringminus.switch.places import Place

GLANCE = 0.5
"""Seconds for an answer where several are asked, or somebody waits for a completion."""
ENDING = 5.0
"""Seconds that a process may take to end."""
PORT_WORDS = (
    "link=up",
    "link=down",
    "speed=",
    "limit=",
    "vlan=",
    "trunk=",
    "native=",
    "name=",
    "mirror=source",
    "mirror=destination",
    "mirror=off",
    "spoofing",
    "spoofing=off",
    "dhcp-guard",
    "dhcp-guard=off",
    "router-guard",
    "router-guard=off",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def place(name: str) -> Place:
    """Where the switch of the command line is, or would be."""
    from ringminus.switch.places import place_of

    return place_of(name)


def ask(name: str, operation: str, **arguments: Any) -> dict[str, Any]:
    """One request to a switch."""
    from ringminus.switch.link.control import Control

    with Control(place(name)) as control:
        return control.request(operation, **arguments)


def _complete_name(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from ringminus.switch.places import places

    with contextlib.suppress(RingminusError):
        return [CompletionItem(one.name) for one in places() if one.name.startswith(incomplete)]
    return []


def _complete_port(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from ringminus.switch.link.control import Control

    with contextlib.suppress(RingminusError), Control(place(ctx.params.get("name") or ""), GLANCE) as control:
        ports = control.request("show")["ports"]
        items = [CompletionItem(str(port["number"]), help=port["name"]) for port in ports]
        return [item for item in items if item.value.startswith(incomplete)]
    return []


def _complete_words(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in PORT_WORDS if word.startswith(incomplete)]


name_argument = click.argument("name", shell_complete=_complete_name)
port_argument = click.argument("port", shell_complete=_complete_port)


class UplinkCommand(click.Command):
    """A command whose `--nat` may have a value, but only behind an equals sign."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--nat=" if one == "--nat" else one for one in args])


nat_option = click.option(
    "--nat",
    metavar="[=OPTIONS]",
    multiple=True,
    help="Plug in NAT: guests reach the host's network. Options are those of --nic nat.",
)
tap_option = click.option(
    "--tap",
    metavar="NAME[,OPTION…]",
    multiple=True,
    help="Plug in a TAP device of the host, which is made if it is missing.",
)


def _uplinks(nat: tuple[str, ...], tap: tuple[str, ...]) -> list[str]:
    return [f"nat:{options}" for options in nat] + [f"tap:{options}" for options in tap]


@click.group(name="switch")
def switch() -> None:
    """Look at virtual switches that several guests share, and change them.

    A guest is plugged into a switch by --nic switch:NAME. The switch appears with its first guest, and
    disappears with its last one; one that was made by `create` stays until `delete`. Only your own guests and
    commands reach your switches.

    \b
    Examples:
      ringminus run … --nic switch:lab     in two terminals: two guests on one switch
      ringminus switch show lab            who is on it, what passed, what was dropped
      ringminus switch capture lab         each frame in a line
      ringminus switch create lab --nat    the guests on it reach the host's network
    """


@switch.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the switches.

    A switch that was created and whose process was killed is `not running`: it comes back with its next
    guest, and `delete` forgets it.

    \b
    Examples:
      ringminus switch list
      ringminus switch list --json | jq -r '.[].name'
    """
    from ringminus.cli.switch_view import list_lines
    from ringminus.switch.places import places

    found = [_glance(one) for one in places()]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        click.echo("\n".join(list_lines(found)))
    else:
        click.echo("there is no switch: --nic switch:NAME of a guest makes one", err=True)


def _glance(one: Place) -> dict[str, Any]:
    """A switch as `list` shows it."""
    from ringminus.switch.link.control import Control, NoSuchSwitch

    try:
        with Control(one, GLANCE) as control:
            facts = control.request("show")
    except NoSuchSwitch:
        return {"name": one.name, "state": "not running"}
    except HostError as error:
        return {"name": one.name, "state": "does not answer", "error": str(error)}
    kinds = [port["kind"] for port in facts["ports"]]
    return {
        "name": one.name,
        "state": "running",
        "guests": kinds.count("guest"),
        "ports": len(kinds),
        "uplinks": [port["name"] for port in facts["ports"] if port["kind"] in ("nat", "tap")],
        "created": facts["created"],
        "pid": facts["pid"],
        "uptime": facts["uptime"],
    }


@switch.command()
@name_argument
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a switch: its ports with their settings and counters, and the addresses it knows.

    IN is what came from the port, OUT what went to it. Each frame that did not arrive is counted under a
    reason at DROPPED.

    \b
    Examples:
      ringminus switch show lab
      watch ringminus switch show lab
      ringminus switch show lab --json | jq '.ports[].counters'
    """
    facts = ask(name, "show")
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    from ringminus.cli.switch_view import show_lines

    click.echo("\n".join(show_lines(facts)))


@switch.command()
@name_argument
@click.option("-w", "--write", "where", metavar="FILE", help="Write a pcap file; - is standard output.")
@click.option("--port", metavar="PORT", shell_complete=_complete_port, help="Only what passes this port.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many frames.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), metavar="S", help="End after so many seconds."
)
def capture(name: str, where: str | None, port: str | None, count: int | None, seconds: float | None) -> None:
    """Show what passes a switch, or write it to a file.

    Without -w each frame is a line. A pcap file is complete at any time, and may be opened while it grows.
    Frames are as guests send them: a large TCP frame is one, and checksums that were left out are filled in.

    Ctrl-C ends it, and says how many frames there were. It ends too when the switch does.

    \b
    Examples:
      ringminus switch capture lab
      ringminus switch capture lab --port 2 --count 10
      ringminus switch capture lab -w lab.pcap --seconds 60
      ringminus switch capture lab -w - | wireshark -k -i -
    """
    from ringminus.cli.capture import run

    facts = ask(name, "show")
    number = find_port(facts, port)["number"] if port is not None else 0
    run(name, where, number, count or 0, seconds)


@switch.command(cls=UplinkCommand)
@name_argument
@nat_option
@tap_option
def create(name: str, nat: tuple[str, ...], tap: tuple[str, ...]) -> None:
    """Make a switch that stays until it is deleted.

    Guests may be on it already. With --nat they reach the host's network as with --nic nat, and each other as
    well; with --tap the switch is connected to a TAP device of the host, and so to what that is bridged with.
    A NAT has no VLANs: say =vlan=5 if it is for those of VLAN 5. A TAP device is a trunk with all of them,
    unless it is told vlan= or trunk=.

    \b
    Examples:
      ringminus switch create lab
      ringminus switch create lab --nat
      ringminus switch create lab --nat=net=10.1.0.0/24,forward=tcp:2222:10.1.0.15:22
      ringminus switch create lab --tap tap0
    """
    from ringminus.switch.link.control import started

    where = place(name)
    with started(where) as control:
        try:
            control.request("create", uplinks=_uplinks(nat, tap))
        except RingminusError:
            # the process that was started for this goes; one with guests, or a created one, stays
            with contextlib.suppress(RingminusError):
                if not control.request("show")["created"]:
                    control.request("stop")
                    _wait_for_its_end(where)
            raise
    click.echo(f"{name}: created; plug guests in with --nic switch:{name}")


@switch.command()
@name_argument
@click.option("--force", is_flag=True, help="Even if guests are on it: their link goes down.")
def delete(name: str, force: bool) -> None:
    """End a switch.

    Guests that lose it so see their link down, and up again when a switch of this name is there again.

    \b
    Examples:
      ringminus switch delete lab
      ringminus switch delete lab --force
    """
    from ringminus.switch.link.control import NoSuchSwitch

    where = place(name)
    try:
        guests = ask(name, "stop", force=force)["guests"]
    except NoSuchSwitch:
        if not where.state.exists() or not where.forget():
            raise
        guests = 0
    _wait_for_its_end(where)
    lost = f", and {guests} of its guests {'has' if guests == 1 else 'have'} no link now" if guests else ""
    click.echo(f"{name}: deleted{lost}")


def _wait_for_its_end(where: Place) -> None:
    until = time.monotonic() + ENDING
    while where.is_alive() and time.monotonic() < until:
        time.sleep(0.01)


@switch.command(cls=UplinkCommand)
@name_argument
@nat_option
@tap_option
def plug(name: str, nat: tuple[str, ...], tap: tuple[str, ...]) -> None:
    """Plug NAT or TAP devices into a switch that is there.

    \b
    Examples:
      ringminus switch plug lab --nat
      ringminus switch plug lab --tap tap0,vlan=5
    """
    if not nat and not tap:
        raise ConfigError("say what to plug in: --nat, or --tap NAME")
    ports = ask(name, "plug", uplinks=_uplinks(nat, tap))["ports"]
    click.echo(f"{name}: port {', '.join(map(str, ports))}")


@switch.command()
@name_argument
@port_argument
def unplug(name: str, port: str) -> None:
    """Take a port away.

    A guest sees its link go down, and it stays down until the guest is started again; `port … link=down` is
    undone by link=up. PORT is a number, a name or an address as `show` has them.

    \b
    Example:
      ringminus switch unplug lab 3
    """
    found = find_port(ask(name, "show"), port)
    ask(name, "unplug", port=found["number"])
    click.echo(f"{name}: port {found['number']} ({found['name'] or found['kind']}) is unplugged")


@switch.command()
@name_argument
@port_argument
@click.argument("options", nargs=-1, shell_complete=_complete_words)
def port(name: str, port: str, options: tuple[str, ...]) -> None:
    """Change a port's settings while it is in use, or show them.

    PORT is a number, a name or an address as `show` has them. OPTIONS are those of --nic; what is not named
    stays as it is. They last until the guest ends.

    \b
      link=down, link=up      pull the cable, plug it in
      speed=1G                the speed that the guest sees
      limit=100M, limit=none  bits per second that the guest may send
      vlan=5, vlan=none       the VLAN that it is in
      trunk=1+10-20, native=1 the VLANs whose tagged frames pass, and that of untagged ones
      spoofing[=off]          other source addresses than its own
      dhcp-guard[=off]        drop what it says as a DHCP server
      router-guard[=off]      drop its router advertisements and redirects
      mirror=source|destination|off
                              show its frames to destinations; show it those of sources
      name=NAME               what `show` calls it

    \b
    Examples:
      ringminus switch port lab 2 link=down
      ringminus switch port lab 2 vlan=5 limit=100M
      ringminus switch port lab 2 limit=none dhcp-guard=off
    """
    found = find_port(ask(name, "show"), port)
    if options:
        ask(name, "configure", port=found["number"], options=list(options))
        found = find_port(ask(name, "show"), str(found["number"]))
    from ringminus.cli.switch_view import settings_words

    click.echo(f"{name}: port {found['number']}: {settings_words(found)}")


def find_port(facts: dict[str, Any], wanted: str) -> dict[str, Any]:
    """The port of a switch that a person means: by its number, its name or its address."""
    ports: list[dict[str, Any]] = facts["ports"]
    for key in ("number", "address", "name"):
        found = [port for port in ports if str(port[key]).lower() == wanted.lower()]
        if len(found) == 1:
            return found[0]
        if found:
            numbers = ", ".join(str(port["number"]) for port in found)
            raise ConfigError(f"ports {numbers} of {facts['name']} have the {key} {wanted}: say a number")
    numbers = ", ".join(str(port["number"]) for port in ports)
    there = f"; it has {numbers}" if ports else ": nothing is plugged into it"
    raise ConfigError(f"the switch {facts['name']} has no port {wanted}{there}")
