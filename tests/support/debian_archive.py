"""A Debian archive of made-up packages with a distribution in it, and an mmdebstrap that only pretends."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from support.guest_packages import guest_repository

CODENAME = "wonder"
OTHER = "later"

# what it was asked for lies beside it; its archive has a few files, and the overlay that it was given
_PRETENDER = """#!{python}
import io, os, pathlib, shlex, signal, sys, tarfile, tempfile, time
here = pathlib.Path(__file__).parent
(here / "asked").write_text("\\n".join(sys.argv[1:]))
(here / "sources").write_text(sys.stdin.read())
hooks = [argument.partition("=")[2] for argument in sys.argv if "-hook=" in argument]
settings = next(shlex.split(hook)[1] for hook in hooks if hook.startswith("upload "))
(here / "settings").write_text(pathlib.Path(settings).read_text())
say = lambda *lines: print(*lines, sep="\\n", file=sys.stderr, flush=True)
work = tempfile.mkdtemp(prefix="mmdebstrap.", dir=here)
say(f"I: using {{work}} as tempdir", "I: running apt-get update...")
say("I: downloading packages with apt...", "0 upgraded, 2 newly installed, 0 to remove", "Get:1 a", "Get:2 b")
say("I: installing essential packages...", "Setting up a (1) ...", "Setting up b (1) ...")
{behaviour}
say("I: creating tarball...")
files = {{
    "etc/fstab": b"", "usr/lib/os-release": b'PRETTY_NAME="Made-up 1"\\n',
    "var/lib/dpkg/status": b"Package: a\\nStatus: ok\\nVersion: 1\\n\\nPackage: b\\nVersion: 2\\n",
}}
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
    seen = set()
    def directories(name):
        for parent in reversed(pathlib.PurePosixPath(name).parents):
            if str(parent) not in seen:
                seen.add(str(parent))
                entry = tarfile.TarInfo(f"./{{parent}}")
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
    for name, data in files.items():
        directories(name)
        entry = tarfile.TarInfo(f"./{{name}}")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    overlay = next(shlex.split(hook)[1] for hook in hooks if hook.startswith("tar-in "))
    with tarfile.open(overlay) as source:
        for member in source:
            directories(member.name)
            if not member.isdir():
                tar.addfile(member, source.extractfile(member) if member.isreg() else None)
os.rmdir(work)
"""


def pretend(directory: Path, behaviour: str = "") -> Path:
    """Put an `mmdebstrap` into `directory` that does `behaviour` (Python) before it gives its archive."""
    directory.mkdir(exist_ok=True)
    path = directory / "mmdebstrap"
    path.write_text(_PRETENDER.format(python=sys.executable, behaviour=behaviour))
    path.chmod(0o755)
    return path


def _add_release(archive: Path, name: str, packages: str) -> None:
    index = archive / "dists" / name / "main" / "binary-amd64" / "Packages"
    index.parent.mkdir(parents=True)
    index.write_text(packages)
    digest = hashlib.sha256(packages.encode()).hexdigest()
    (archive / "dists" / name / "Release").write_text(
        f"Origin: Nowhere\nSuite: {name}\nCodename: {name}\nComponents: main\nArchitectures: amd64\n"
        f"Date: Sat, 01 Jan 2022 00:00:00 UTC\nSHA256:\n"
        f" {digest} {len(packages)} main/binary-amd64/Packages\n"
    )


def debian_archive(directory: Path) -> Path:
    """An archive with the packages of `guest_repository` in `CODENAME`, its updates, and in `OTHER`."""
    archive = guest_repository(directory)
    packages = (archive / "Packages").read_text().replace("Filename: ./", "Filename: ")
    for name in (CODENAME, f"{CODENAME}-updates", OTHER):
        _add_release(archive, name, packages)
    return archive


def archive_configuration(directory: Path, archive: Path) -> Path:
    """A configuration for APT_CONFIG with `CODENAME` as a one-line source and the others as deb822."""
    parts = directory / "sources.list.d"
    parts.mkdir(parents=True)
    (parts / "one.list").write_text(
        f"# a comment\ndeb [trusted=yes arch=amd64 check-valid-until=no] file:{archive} {CODENAME} main\n"
    )
    (parts / "two.sources").write_text(
        f"# a comment\nTypes: deb\nURIs: file:{archive}\nSuites: {OTHER}\nComponents: main\nTrusted: yes\n\n"
        f"Types: deb\nURIs: file:{archive}\nSuites: {CODENAME}-updates\nComponents: main\n"
        "Trusted: yes\nAllow-Insecure:\n yes\n"
    )
    settings = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": parts,
        "Dir::State::lists": directory / "never",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::http::Proxy": "http://proxy.example:3128/",
    }
    path = directory / "apt.conf"
    path.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    return path
