"""What of the machine's apt configuration another root's apt needs: its sources, and how to fetch."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ringminus.errors import ConfigError, HostError
from ringminus.guest.packages import Apt, Progress

# fields that the index targets tell, or that do not matter elsewhere
_STRUCTURE = {
    *("types", "uris", "suites", "components", "enabled"),
    *("arch", "architectures", "lang", "languages", "target", "targets"),
}
_UNWANTED = re.compile(r"Acquire::(IndexTargets|CompressionTypes|Changelogs|cdrom|Languages)\b")
_FETCHING = re.compile(r'Acquire::|RootDir |APT::Sandbox::User "root"')


@dataclass(frozen=True, slots=True)
class Target:
    """A list of packages that apt fetches; `entry` is the file and the number of its source."""

    uri: str
    release: str
    component: str
    codename: str
    suite: str
    entry: str


_FORMAT = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(CODENAME)\t$(SUITE)\t$(SOURCESENTRY)"


def _base(name: str) -> str:
    """The distribution that bookworm-updates or bookworm/updates belongs to."""
    return re.split(r"[-/]", name, maxsplit=1)[0]


def host_names() -> set[str]:
    """What the machine's own distribution is called, such as {"bookworm"}; two names before a release."""
    names = set()
    with suppress(OSError):
        names.add(platform.freedesktop_os_release().get("VERSION_CODENAME", ""))
        names |= set(Path("/etc/debian_version").read_text().strip().split("/"))
    return {name for name in names if name.isalpha()}


def _options(entry: str) -> dict[str, str]:
    """A source's options as deb822 fields, continuation lines included; `entry` is file:number."""
    name, _, number = entry.rpartition(":")
    try:
        text = Path(name).read_text(encoding="utf-8", errors="replace")
        if not name.endswith(".sources"):
            return dict(_one_line_options(text.splitlines()[int(number) - 1]))
        lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        stanza = [part for part in re.split(r"\n[ \t]*\n", lines) if part.strip()][int(number) - 1]
    except (OSError, ValueError, IndexError) as error:
        raise HostError(f"cannot read the apt source {entry}: {error}") from None
    pairs = re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.M)
    return {key: value.strip() for key, value in pairs if key.lower() not in _STRUCTURE}


def _one_line_options(line: str) -> Iterator[tuple[str, str]]:
    """`deb [signed-by=FILE trusted=yes] …` as fields."""
    if match := re.match(r"\s*deb\s+\[(.*?)\]", line):
        for option in match[1].split():
            key, _, value = option.partition("=")
            if value and key.rstrip("+-").lower() not in _STRUCTURE:
                yield key.rstrip("+-").title(), value.replace(",", " ")


def _stanza(target: Target) -> str:
    fields = {
        "Types": "deb",
        "URIs": target.uri,
        "Suites": target.release,
        "Components": target.component,
        **_options(target.entry),
    }
    return "".join(f"{key}: {value}\n" for key, value in fields.items())


def sources(apt: Apt, suite: str | None, progress: Progress) -> str:
    """The machine's sources for one distribution, as deb822 text: that of `suite`, or else its own.

    Raises `ConfigError` when apt has none, and `HostError` when it cannot tell.
    """
    wanted = {_base(suite)} if suite else host_names()
    lines = apt.index_targets(_FORMAT, progress)
    targets = [Target(*line.split("\t")) for line in lines if line.count("\t") == _FORMAT.count("\t")]
    chosen = [
        target
        for target in targets
        if target.component and wanted & {_base(target.release), _base(target.codename), _base(target.suite)}
    ]
    if not chosen:
        raise ConfigError(
            f"apt has no source of {' or '.join(sorted(wanted)) or 'this distribution'}: "
            f"add it to /etc/apt/sources.list.d, or name another with --suite"
        )
    return "\n".join(dict.fromkeys(map(_stanza, chosen)))


def fetch_settings(apt: Apt) -> str:
    """The machine's apt.conf as far as it tells how to fetch: proxies, mirrors' certificates, passwords."""
    dump = apt.configuration('%F "%v";%n').splitlines()
    lines = [line for line in dump if _FETCHING.match(line) and not _UNWANTED.match(line)]
    lines = [line for line in lines if line.count('"') == 2]  # apt.conf cannot say a quote in a value
    for key, kind in (("Dir::Etc::netrc", "f"), ("Dir::Etc::netrcparts", "d")):
        if path := apt.configured_path(key, kind):
            lines.append(f'{key} "{path}";')
    return "".join(f"{line}\n" for line in lines)
