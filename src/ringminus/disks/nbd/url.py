"""Disks by their NBD URL: `nbd://HOST[:PORT]/[EXPORT]` and `nbd+unix:///[EXPORT]?socket=PATH`.

Source: "The NBD URI", doc/uri.md of the NetworkBlockDevice project.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit
from uuid import NAMESPACE_URL, uuid5

from ringminus.disks.disk import DiskError
from ringminus.disks.nbd.connection import Connection
from ringminus.disks.nbd.disk import CONNECTIONS, NbdDisk
from ringminus.disks.nbd.wire import DEFAULT_PORT, TransmissionFlag
from ringminus.errors import ConfigError

# a URL that went through a Path has lost a slash or two
_URL = re.compile(r"(nbd|nbds|nbd\+unix|nbds\+unix|nbd\+vsock):/+", re.IGNORECASE)
_TIMEOUT = 30.0  # seconds to connect, and to shake hands


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: `unix`, or `host` and `port`; and the name of its export."""

    host: str
    port: int
    unix: str
    export: str

    @property
    def url(self) -> str:
        """The address as it should be written."""
        export = quote(self.export)
        if self.unix:
            return f"nbd+unix:///{export}?socket={quote(self.unix)}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORT else f":{self.port}"
        return f"nbd://{host}{port}/{export}"


def parse_url(text: str) -> Address:
    """Raises `ConfigError`."""
    how = "say nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH"
    match = _URL.match(text)
    if match is None or match[1].lower() not in ("nbd", "nbd+unix"):
        raise ConfigError(f"{text}: {how}")
    scheme = match[1].lower()
    try:
        parts = urlsplit(f"{scheme}:{'//' if scheme == 'nbd' else '///'}{text[match.end() :]}")
        sockets = parse_qs(parts.query).get("socket", [])
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise ConfigError(f"{text}: {error}; {how}") from None
    export = unquote(parts.path.removeprefix("/"))
    if scheme == "nbd+unix":
        if len(sockets) != 1:
            raise ConfigError(f"{text} names no socket: {how}")
        return Address("", 0, sockets[0], export)
    if not parts.hostname:
        raise ConfigError(f"{text} names no host: {how}")
    return Address(parts.hostname, port, "", export)


def _connect(address: Address, where: str) -> socket.socket:
    try:
        if address.unix:
            peer = socket.socket(socket.AF_UNIX)
            try:
                peer.settimeout(_TIMEOUT)
                peer.connect(address.unix)
            except BaseException:
                peer.close()
                raise
        else:
            peer = socket.create_connection((address.host, address.port), _TIMEOUT)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return peer
    except OSError as error:
        raise DiskError(f"cannot connect to {where}: {error.strerror or error}", error.errno) from None


def open_url(url: str, read_only: bool = False) -> NbdDisk:
    """Open the export of a running server. Raises `ConfigError` and `DiskError`."""
    address = parse_url(url)
    url = address.url
    connections: list[Connection] = []
    try:
        while len(connections) < CONNECTIONS:
            peer = _connect(address, url)
            connections.append(Connection(peer, url, address.export))
            peer.settimeout(None)
            if not connections[0].export.flags & TransmissionFlag.CAN_MULTI_CONN:
                break
        return NbdDisk(connections, url, "nbd", uuid5(NAMESPACE_URL, url), read_only)
    except BaseException:
        for connection in connections:
            connection.close()
        raise
