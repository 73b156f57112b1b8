"""What a person may say of a NAT, with QEMU's `-netdev user` as the default."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ringminus.errors import ConfigError
from ringminus.switch.nat.forwards import Forward
from ringminus.switch.nat.library import LARGEST_PACKET

NETWORK = IPv4Network("10.0.2.0/24")
NETWORK6 = IPv6Network("fec0::/64")

_HOST, _DNS, _DHCP = 2, 3, 15
_DHCP_ADDRESSES = 16  # libslirp gives no more (NB_BOOTP_CLIENTS)
_PREFIX = 64  # guests make their addresses of a prefix of this length (RFC 4862)
_SMALLEST_MTU = 1280  # IPv6's (RFC 8200)


@dataclass(frozen=True, slots=True)
class NatConfig:
    """Which networks the guests see, and what they may reach.

    In `network` the host is .2, the name server .3, and DHCP gives 16 addresses from .15 on; in `ipv6` (None:
    no IPv6) the host is ::2, the name server ::3, and guests make their own addresses. `restrict` keeps
    guests from everything but DHCP and the connections that `forwards` bring. With `host_loopback` they
    reach what listens on the host's 127.0.0.1 and ::1 at the host's address. `mtu` is the largest IP packet
    that a guest takes, in bytes: larger datagrams are fragmented for it. `sockets` bounds how many of the
    host's sockets guests may open (0: 4096, or half of what the process may have open). Raises
    `ConfigError`."""

    network: IPv4Network = NETWORK
    ipv6: IPv6Network | None = NETWORK6
    forwards: tuple[Forward, ...] = ()
    restrict: bool = False
    host_loopback: bool = True
    mtu: int = 1500
    sockets: int = 0

    def __post_init__(self) -> None:
        if self.network.num_addresses <= _DHCP + _DHCP_ADDRESSES or self.network.prefixlen < 8:
            raise ConfigError(f"NAT network {self.network}: give one from /8 to /27")
        if self.ipv6 is not None and self.ipv6.prefixlen != _PREFIX:
            raise ConfigError(f"NAT network {self.ipv6}: an IPv6 network has a prefix of /{_PREFIX}")
        if not _SMALLEST_MTU <= self.mtu <= LARGEST_PACKET:
            raise ConfigError(f"a NAT's MTU is from {_SMALLEST_MTU} to {LARGEST_PACKET}, not {self.mtu}")
        if self.sockets < 0:
            raise ConfigError("the bound of a NAT's sockets is a number of sockets, or 0")
        taken: set[tuple[str, object, int]] = set()
        for forward in self.forwards:
            self._check(forward)
            key = (forward.protocol, forward.host, forward.host_port)
            if key in taken:
                raise ConfigError(f"forward {forward}: its host port is forwarded twice")
            taken.add(key)

    def _check(self, forward: Forward) -> None:
        if forward.version == 6 and self.ipv6 is None:
            raise ConfigError(f"forward {forward}: the NAT has no IPv6")
        network = self.network if forward.version == 4 else self.ipv6
        if forward.guest is None or network is None:
            return
        if forward.guest not in network:
            raise ConfigError(f"forward {forward}: the guest's address is not in {network}")
        if forward.guest in (self.host, self.dns, self.host6, self.dns6):
            raise ConfigError(f"forward {forward}: {forward.guest} is the NAT's own address")

    @property
    def host(self) -> IPv4Address:
        """The gateway, and the host itself."""
        return self.network.network_address + _HOST

    @property
    def dns(self) -> IPv4Address:
        """The name server: what is asked here goes to the host's."""
        return self.network.network_address + _DNS

    @property
    def dhcp_start(self) -> IPv4Address:
        """The first address that DHCP gives."""
        return self.network.network_address + _DHCP

    @property
    def host6(self) -> IPv6Address | None:
        """As `host`, in IPv6."""
        return None if self.ipv6 is None else self.ipv6.network_address + _HOST

    @property
    def dns6(self) -> IPv6Address | None:
        """As `dns`, in IPv6."""
        return None if self.ipv6 is None else self.ipv6.network_address + _DNS
