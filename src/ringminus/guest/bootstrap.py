"""Running mmdebstrap: Debian installed into a tar archive, as root or as any user."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ringminus.errors import ConfigError, HostError
from ringminus.guest.overlay import REMOVED
from ringminus.guest.packages import Progress
from ringminus.guest.programs import end_group, environment, find_program, run

_MERGED_USR = Path("/usr/share/mmdebstrap/hooks/maybe-merged-usr")
EXCLUDED = (
    *(f"/usr/share/{name}/*" for name in ("doc", "man", "info", "locale", "lintian", "doc-base", "bug")),
    *("/lib/udev/hwdb.d/*", "/usr/lib/udev/hwdb.d/*"),  # names for hardware that a guest never has
)
"""What dpkg leaves out, in the guest too."""
_GRACE = 10.0  # seconds that mmdebstrap has to remove its directory
_HOST_SETTINGS = "/etc/apt/apt.conf.d/98host"


def _mode() -> str:
    """How mmdebstrap is to become root of what it installs. Who is root has it work in namespaces, where
    that is possible, so that its mounts and processes end with it whatever happens."""
    if os.geteuid() != 0:
        return "auto"
    namespaces = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "true"]
    try:
        possible = run(namespaces).returncode == 0
    except OSError:
        possible = False
    return "unshare" if possible else "auto"


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What to install. `sources` is deb822 text, `settings` an apt.conf that only the installation sees,
    `overlay` a tar archive that goes over it, and depmod runs for the kernel of that release."""

    packages: Sequence[str]
    sources: str
    settings: Path
    overlay: Path
    kernel_version: str

    def command(self) -> list[str]:
        """The command line; the archive comes to its standard output."""
        conf = shlex.quote(_HOST_SETTINGS)
        depmod = shlex.quote(self.kernel_version)
        dpkg = [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
        return [
            *("mmdebstrap", "--verbose", "--variant=apt", f"--mode={_mode()}", "--format=tar"),
            *([f"--hook-dir={_MERGED_USR}"] if _MERGED_USR.is_dir() else []),
            *(*dpkg, "--dpkgopt=path-include=/usr/share/doc/*/copyright"),
            f"--include={','.join(self.packages)}",
            f"--setup-hook=upload {shlex.quote(str(self.settings))} {conf}",
            f"--customize-hook=tar-in {shlex.quote(str(self.overlay))} /",
            f'--customize-hook=chroot "$1" depmod {depmod}',
            f'--customize-hook=cd "$1" && rm -f {shlex.join(REMOVED)} .{conf}',
            *("", "-", "-"),  # no suite, archive to standard output, sources from standard input
        ]


class _Steps:
    """Turns mmdebstrap's lines into steps and how much of each is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._phase = ""
        self._step = ""
        self._expected = 0
        self._done = 0
        self.directory: Path | None = None
        """Where mmdebstrap works, once it has told."""

    def line(self, line: str) -> None:
        if self.directory is None and (
            match := re.fullmatch(r"I: using (/.*/mmdebstrap\.\w+) as tempdir", line)
        ):
            self.directory = Path(match[1])
        elif line.startswith("I: running apt-get update"):
            self._begin("package lists")
        elif line.startswith("I: downloading packages"):
            self._phase = "base"
            self._begin("base: download")
        elif line.startswith("I: installing remaining packages"):
            self._phase = "packages"
            self._begin("packages: download")
        elif line.startswith("I: creating tarball"):
            self._begin("packing and unpacking")
        elif match := re.match(r"\d+ upgraded, (\d+) newly installed", line):
            self._expected = int(match[1])
        elif line.startswith("Get:") and self._step.endswith("download"):
            self._count()
        elif line.startswith("Setting up ") and self._phase:
            if not self._step.endswith("install"):
                self._begin(f"{self._phase}: install")
            self._count()

    def finish(self) -> None:
        if self._step:
            self._progress(self._step, 1.0)

    def _begin(self, step: str) -> None:
        self.finish()
        self._step, self._done = step, 0
        self._progress(step, 0.0)

    def _count(self) -> None:
        self._done += 1
        self._progress(self._step, min(self._done / max(self._expected, 1), 1.0))


def _failure(lines: Sequence[str], status: int) -> Exception:
    """The error that a person can do something about, from the lines of a failed run."""
    text = "\n".join(lines)
    if match := re.search(r"^E: Unable to locate package (.*)$", text, re.M):
        return ConfigError(f"apt knows no package {match[1]}: see --install and --suite")
    if "unable to pick chroot mode" in text:
        return HostError(
            "mmdebstrap can work neither as root nor in a user namespace here: install the Debian package "
            "uidmap and have your user listed in /etc/subuid and /etc/subgid, install fakechroot, or be root"
        )
    if "No space left on device" in text:
        return HostError("no space left: mmdebstrap needs about 1 GB in /tmp, or in the directory TMPDIR")
    errors = [line[2:].strip() for line in lines if line.startswith("E:")]
    # the first is the cause, those that follow tell who gave up over it
    return HostError(f"mmdebstrap failed: {errors[0] if errors else f'exit status {status}'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have mmdebstrap end; a second interrupt ends it at once."""
    end_group(process, signal.SIGINT)
    try:
        process.wait(_GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        end_group(process, signal.SIGKILL)
        process.wait()


def _remove(directory: Path | None) -> None:
    """Remove what mmdebstrap could not: some of its processes take an interrupt for nothing."""
    if directory is None or not directory.is_dir() or directory.is_symlink():
        return
    mounts = Path("/proc/mounts").read_text(errors="replace").splitlines()
    if any(line.split()[1].startswith(f"{directory}/") for line in mounts):
        return  # it works without namespaces, and its mounts hold what is not to be removed
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():  # its files belong to users of a namespace, and only there can they be removed
        inside = ["mmdebstrap", "--unshare-helper", "rm", "-rf", "--one-file-system", str(directory)]
        run(inside)


@contextmanager
def bootstrapped(request: Bootstrap, progress: Progress) -> Iterator[IO[bytes]]:
    """The tar archive of the installed system, to be read from beginning to end in the block.

    Raises `HostError` and `ConfigError` when mmdebstrap failed, in place of what the block says of the
    archive (`tarfile.ReadError`); with any other exception of the block mmdebstrap is ended.
    """
    find_program("mmdebstrap", "mmdebstrap")
    process = subprocess.Popen(
        request.command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        process_group=0,  # an interrupt from the terminal reaches it through us, and once
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    lines: list[str] = []
    steps = _Steps(progress)

    def follow(stream: IO[bytes]) -> None:
        for raw in stream:
            lines.append(raw.decode(errors="replace").rstrip())
            steps.line(lines[-1])
        steps.finish()

    follower = threading.Thread(target=follow, args=(process.stderr,), daemon=True)
    follower.start()
    try:
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(request.sources.encode())
                process.stdin.close()
            yield process.stdout
        except (tarfile.ReadError, EOFError):  # cut short, and mmdebstrap knows why
            if process.wait() == 0:
                raise HostError("mmdebstrap gave a damaged archive: try again") from None
        while process.stdout.read(1 << 16):
            pass
        process.wait()
        follower.join()
        if process.returncode != 0:
            raise _failure(lines, process.returncode)
    finally:
        process.stdout.close()  # or it waits for us to read on
        if process.poll() is None:
            _end(process)
            follower.join(_GRACE)
            _remove(steps.directory)
        process.stderr.close()
