"""Fetching Debian packages with the machine's own apt, as any user.

apt checks signatures and hashes. Where the system's package lists are missing, stale or unreadable,
apt is given directories of our own, so that nothing needs root and `apt-get update` need not have run.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ringminus.errors import ConfigError, HostError
from ringminus.guest.programs import run, started

Progress = Callable[[str, float], None]
"""Told the name of a step and how much of it is done, 0 to 1."""

OWN_KERNEL = "or boot a kernel of your own: ringminus run --kernel PATH [--initrd PATH]"
_STATUS_LINE = re.compile(r"dlstatus:\d+:([\d.]+):")


@dataclass(frozen=True, slots=True)
class Package:
    """A binary package that apt knows; `depends` has the first alternative of each dependency."""

    name: str
    version: str
    architecture: str
    depends: tuple[str, ...]
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        """What `apt-get download` names it."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


def _fields(paragraph: str) -> dict[str, str]:
    """The first paragraph of a control file; continued lines are dropped."""
    lines = paragraph.split("\n\n", 1)[0].splitlines()
    pairs = (line.partition(":") for line in lines if not line.startswith(" "))
    return {key: value.strip() for key, _, value in pairs}


def _package(paragraph: str) -> Package:
    fields = _fields(paragraph)
    relations = ",".join((fields.get("Pre-Depends", ""), fields.get("Depends", "")))
    depends = [re.split(r"[ |(:]", item.strip(), maxsplit=1)[0] for item in relations.split(",")]
    return Package(
        name=fields["Package"],
        version=fields["Version"],
        architecture=fields["Architecture"],
        depends=tuple(name for name in depends if name),
        size=int(fields["Size"]),
        sha256=fields["SHA256"],
    )


def _last_error(output: str) -> str:
    errors = [line[2:].strip() for line in output.splitlines() if line.startswith("E:")]
    return errors[-1] if errors else "apt failed without a reason"


class Apt:
    """The machine's apt. `directory` holds downloads and, where needed, lists of our own; `suite` is the
    distribution to prefer, as in `apt-get -t`."""

    def __init__(self, directory: Path, suite: str | None = None) -> None:
        for program in ("apt-get", "apt-cache", "dpkg-deb"):
            if shutil.which(program) is None:
                raise HostError(
                    f"the guest is made from Debian packages, and this host has no {program}: "
                    f"build it on Debian or Ubuntu, {OWN_KERNEL}"
                )
        self._downloads = directory / "packages"
        self._state = directory / "apt"
        self._suite = suite
        self._private = False
        try:
            self._downloads.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(f"cannot make {self._downloads}: {error.strerror}") from None

    def get(self, names: Sequence[str], pattern: re.Pattern[str], progress: Progress) -> list[Path]:
        """Files of the named packages and of their dependencies whose name matches `pattern`.

        Raises `HostError` when apt cannot give them, and `ConfigError` when it knows no such package.
        """
        try:
            return self._fetch(self._closure(names, pattern, progress), progress)
        except (HostError, ConfigError):
            self._use_own_lists(progress)
        return self._fetch(self._closure(names, pattern, progress), progress)

    def index_targets(self, form: str, progress: Progress) -> list[str]:
        """A line of `form` (see `apt-get indextargets`) for each list of packages that apt knows."""
        ask = ("indextargets", "--format", form, "Created-By: Packages")
        if not (lines := self._run(self._command("apt-get", *ask)).stdout.splitlines()):
            self._use_own_lists(progress)  # where lists were never fetched there is nothing to tell of
            lines = self._run(self._command("apt-get", *ask)).stdout.splitlines()
        return lines

    def configuration(self, form: str) -> str:
        """The machine's own apt.conf, in the form of `apt-config dump --format`."""
        return self._run(["apt-config", "dump", "--no-empty", "--format", form]).stdout

    def configured_path(self, key: str, kind: str) -> str | None:
        """An absolute path of the machine's apt.conf: kind `f` a file, `d` a directory; None if not there."""
        answer = self._run(["apt-config", "shell", "path", f"{key}/{kind}"]).stdout
        path = answer.partition("=")[2].strip().strip("'")
        return path if path and Path(path).exists() else None

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [program, *(["-t", self._suite] if self._suite else [])]
        own = [
            f"Dir::Cache={self._state}/cache",
            "Dir::Cache::pkgcache=pkgcache.bin",  # containers often turn this off
            f"Dir::State::status={self._state}/nothing-installed",
        ]
        if self._private:
            own += [f"Dir::State={self._state}/state", f"Dir::State::lists={self._state}/lists"]
        for option in own:
            command += ["-o", option]
        return [*command, *arguments]

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        self._make_directories()
        return run(command)

    def _make_directories(self) -> None:
        for name in ("cache/archives/partial", "state", "lists/partial"):
            (self._state / name).mkdir(parents=True, exist_ok=True)
        installed = self._state / "nothing-installed"
        if not installed.exists():  # its time must not change, or apt's cache is void
            installed.touch()

    def _use_own_lists(self, progress: Progress) -> None:
        """Go on with lists of our own, freshly fetched; one broken source does not spoil the others."""
        self._private = True
        progress("package lists", 0.0)
        update = [
            argument for argument in self._command("apt-get", "update", "-q") if argument != self._suite
        ]
        self._run([argument for argument in update if argument != "-t"])
        progress("package lists", 1.0)

    def _find(self, name: str) -> Package:
        answer = self._run(self._command("apt-cache", "show", "--no-all-versions", name))
        if answer.returncode == 0 and answer.stdout.strip():
            return _package(answer.stdout)
        error = _last_error(answer.stderr)
        if "APT::Default-Release" in error:
            raise ConfigError(
                f"apt knows no suite {self._suite}: add it to /etc/apt/sources.list.d, or leave out --suite"
            )
        if error == "No packages found":
            error = f"apt knows no package {name}"
        raise ConfigError(f"{error}: name another kernel with --kernel-package, {OWN_KERNEL}")

    def _closure(self, names: Sequence[str], pattern: re.Pattern[str], progress: Progress) -> list[Package]:
        found: dict[str, Package] = {}
        queue = list(names)
        self._run(self._command("apt-cache", "gencaches"))  # else every look-up takes a second
        while queue:
            name = queue.pop(0)
            progress("looking up packages", len(found) / (len(found) + len(queue) + 1))
            if name in found:
                continue
            found[name] = self._find(name)
            queue += [needed for needed in found[name].depends if pattern.match(needed)]
        progress("looking up packages", 1.0)
        return list(found.values())

    def _is_here(self, package: Package) -> bool:
        path = self._downloads / package.file_name
        if not path.is_file() or path.stat().st_size != package.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == package.sha256

    def _fetch(self, packages: list[Package], progress: Progress) -> list[Path]:
        missing = [package for package in packages if not self._is_here(package)]
        for package in missing:
            (self._downloads / package.file_name).unlink(missing_ok=True)  # apt trusts one of the right size
        if missing:
            total = sum(package.size for package in missing)
            self._download(missing, f"downloading {total / 1e6:.0f} MB", progress)
        absent = [package.name for package in missing if not self._is_here(package)]
        if absent:
            raise HostError(f"apt-get did not give {', '.join(absent)} as announced: try again")
        return [self._downloads / package.file_name for package in packages]

    def _download(self, packages: list[Package], step: str, progress: Progress) -> None:
        names = [f"{package.name}={package.version}" for package in packages]
        command = self._command("apt-get", "-q", "-o", "APT::Status-Fd=1", "download", *names)
        progress(step, 0.0)
        with started(command, self._downloads) as process:
            assert process.stdout is not None
            output = []
            for line in process.stdout:
                output.append(line)
                if match := _STATUS_LINE.match(line):
                    progress(step, float(match[1]) / 100)
        if process.returncode != 0:
            raise HostError(f"cannot download {' '.join(names)}: {_last_error(''.join(output))}")
        progress(step, 1.0)


def unpack(package: Path, directory: Path) -> None:
    """Extract a package's files into `directory`; raises `HostError`."""
    answer = run(["dpkg-deb", "-x", str(package), str(directory)])
    if answer.returncode != 0:
        raise HostError(f"cannot unpack {package}: {answer.stderr.strip() or 'dpkg-deb failed'}")
