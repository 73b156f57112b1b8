"""Network namespaces of the host: real TCP/IP stacks for both ends of what is tested. They need root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ringminus.switch.frame import Frame
from ringminus.switch.port import Endpoint
from ringminus.switch.reactor import Reactor
from ringminus.switch.tap import TapDevice


def why_not() -> str:
    """Why there can be none here; "" if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or not Path("/dev/net/tun").exists():
        return "there is no ip command, or no /dev/net/tun"
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True)
    return "" if made.returncode == 0 else f"no network namespaces: {made.stderr.decode().strip()}"


class Namespace:
    """A namespace, and a TAP device of ours in it with the addresses 10.9.0.N and fd09::N."""

    def __init__(self, number: int, reactor: Reactor) -> None:
        self.name = f"ringminus{os.getpid()}-{number}"
        self.ipv4, self.ipv6 = f"10.9.0.{number}", f"fd09::{number}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.tap = TapDevice(f"rm{os.getpid()}x{number}"[-15:], reactor)
        device = self.tap.name
        subprocess.run(["ip", "link", "set", device, "netns", self.name], check=True)
        self.ip(f"link set lo up; addr add {self.ipv4}/24 dev {device}; link set {device} up")
        self.ip(f"addr add {self.ipv6}/64 dev {device} nodad")

    def ip(self, commands: str) -> None:
        """`ip` commands, with semicolons between them."""
        lines = commands.replace("; ", "\n")
        self.run(["ip", "-batch", "-"], input=lines)

    def run(self, command: Sequence[str], input: str = "") -> str:
        """Run a command in it to its end; gives what it printed."""
        done = subprocess.run(self._within(command), input=input, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._within(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def python(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        return self.start([sys.executable, "-S", "-c", program, *arguments])

    def _within(self, command: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def counters(self, prefix: str = "") -> dict[str, int]:
        """The kernel's counters of its protocols that are not zero, by name."""
        lines = [
            line.split() for line in self.run(["cat", "/proc/net/snmp", "/proc/net/netstat"]).splitlines()
        ]
        found = {
            names[0][:-1] + name: int(value)
            for names, values in zip(lines[::2], lines[1::2], strict=True)
            for name, value in zip(names[1:], values[1:], strict=True)
            if int(value)
        }
        six = (line.split() for line in self.run(["cat", "/proc/net/snmp6"]).splitlines())
        found |= {name: int(value) for name, value in six if int(value)}
        return {name: value for name, value in found.items() if name.startswith(prefix)}

    def link(self) -> dict[str, Any]:
        """What the kernel says of the TAP device."""
        found: list[dict[str, Any]] = json.loads(self.run(["ip", "-j", "-s", "link", "show", self.tap.name]))
        return found[0]

    def close(self) -> None:
        self.tap.close()
        subprocess.run(["ip", "netns", "delete", self.name], check=True)


class Wire:
    """A `Port` that leads to one other endpoint, and notes what passes; `change` may make other frames of
    one."""

    def __init__(self, to: Endpoint) -> None:
        self.to = to
        self.frames: list[Frame] = []

    def change(self, frame: Frame) -> list[Frame]:
        return [frame]

    def send(self, frame: Frame) -> bool:
        self.frames.append(frame)
        for one in self.change(frame):
            self.to.deliver(one)
        return True

    def flush(self) -> None:
        self.to.flush()

    def set_address(self, address: bytes) -> None:
        """It has no guard."""


def serve(reactor: Reactor, processes: Sequence[subprocess.Popen[str]], seconds: float = 30) -> list[str]:
    """Let frames pass until all processes have ended; gives what they printed."""
    until = time.monotonic() + seconds
    while any(process.poll() is None for process in processes):
        assert time.monotonic() < until, "it takes too long"
        reactor.dispatch(0.01)
    return [process.communicate()[0] for process in processes]
