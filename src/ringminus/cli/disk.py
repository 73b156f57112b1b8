"""`ringminus disk`: making virtual disks and taking care of them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from ringminus.cli.interrupts import interruptible
from ringminus.cli.progress import progress
from ringminus.errors import ConfigError

EXIT_DAMAGED = 3
FILE = click.Path(path_type=Path)
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
SIZES = {"size", "used", "file_size", "block_size", "free_in_file", "cluster_size"}

format_option = click.option(
    "--format", metavar="NAME", help="The format, where name and contents do not tell."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def disk() -> None:
    """Make virtual disks, look at them, convert, check, resize and compact them.

    \b
    Formats: vhdx, vhd, raw (and .iso, read-only); through qemu-nbd and qemu-img also
    qcow2, vmdk, vdi, qed, parallels. A file's name tells its format, and its contents have
    to agree; --format overrides both.

    \b
    Examples:
      ringminus disk create root.vhdx 20G
      ringminus disk create test.vhdx --parent root.vhdx
      ringminus disk convert debian.qcow2 root.vhdx
      ringminus disk info root.vhdx
    """


def _size(text: str | None) -> int | None:
    """A size of the command line in bytes."""
    # imported late: it brings what a whole machine needs
    from ringminus.machine.config import parse_size

    return None if text is None else parse_size(text)


def human(size: int) -> str:
    """A size for a person: `20 GiB`, and the bytes where that is not all."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    if not unit:
        return f"{size} bytes"
    text = f"{value:.1f}".removesuffix(".0")
    return f"{text} {UNITS[unit]}"


def _show(facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        if value is None or value == "":
            continue
        shown = f"{human(value)} ({value} bytes)" if key in SIZES and value >= 1024 else str(value)
        if isinstance(value, bool):
            shown = "yes" if value else "no"
        click.echo(f"{key.replace('_', ' ') + ':':<24}{shown}")


@disk.command()
@click.argument("path", type=FILE)
@click.argument("size", required=False)
@click.option(
    "--format", metavar="NAME", help="raw, vhd, vhdx, qcow2, vmdk or vdi; else the file's name tells."
)
@click.option("--fixed", is_flag=True, help="Take all space now, instead of when it is written.")
@click.option("--parent", type=FILE, help="Hold only what differs from this disk, which must stay as it is.")
@click.option("--sector-size", type=click.Choice(["512", "4096"]), help="Logical sector, of VHDX; else 512.")
@click.option("--block-size", metavar="SIZE", help="What is allocated at once, of VHD and VHDX.")
@json_option
def create(
    path: Path,
    size: str | None,
    format: str | None,
    fixed: bool,
    parent: Path | None,
    sector_size: str | None,
    block_size: str | None,
    as_json: bool,
) -> None:
    """Make an empty disk.

    PATH is its file, and SIZE what the guest sees, such as 20G or 512M. Unless it is --fixed, the file grows
    as the guest writes.

    With --parent it is a differencing disk: it shows what the parent holds, and keeps what is written. The
    parent must be of the same format, and must not be written any more. SIZE is left out then.

    \b
    Examples:
      ringminus disk create root.vhdx 20G
      ringminus disk create data.vhd 4G --fixed
      ringminus disk create native.vhdx 1T --sector-size 4096
      ringminus disk create test.vhdx --parent root.vhdx
    """
    from ringminus.disks.create import create_disk, format_to_make
    from ringminus.disks.open import open_disk

    name = format_to_make(path, format)
    with interruptible():
        create_disk(
            path,
            name,
            _size(size),
            fixed=fixed,
            parent=parent,
            block_size=_size(block_size),
            sector_size=None if sector_size is None else int(sector_size),
        )
    with open_disk(path, name, read_only=True) as made:
        facts = made.info()
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo(f"{path}: {human(facts['size'])}, {facts['kind']} {name}")


@disk.command()
@click.argument("path", type=FILE)
@format_option
@click.option("--chain", is_flag=True, help="Also the disk's parent, and its parent.")
@json_option
def info(path: Path, format: str | None, chain: bool, as_json: bool) -> None:
    """Tell what a disk is.

    `size` is what the guest sees, `used` what the file takes on the host. PATH may also be the URL of an
    NBD server's disk. A disk that a machine is writing is not opened.

    \b
    Examples:
      ringminus disk info root.vhdx
      ringminus disk info --chain --json test.vhdx
      ringminus disk info nbd://localhost/export
    """
    from ringminus.disks.open import open_disk

    with open_disk(path, format, read_only=True) as opened:
        facts: dict[str, Any] | None = opened.info()
    found = []
    while facts is not None:
        beneath = facts.pop("parent", None)
        found.append(facts | ({"parent": beneath["path"]} if beneath is not None else {}))
        facts = beneath if chain else None
    if as_json:
        click.echo(json.dumps(found if chain else found[0], indent=2))
        return
    for number, facts in enumerate(found):
        if number:
            click.echo()
        _show(facts)


@disk.command()
@click.argument("path", type=FILE)
@format_option
@click.option("--repair", is_flag=True, help="Mend what can be mended without guessing.")
@json_option
def check(path: Path, format: str | None, repair: bool, as_json: bool) -> None:
    """Look for damage in a disk's file, and mend it.

    It ends with status 3 if there is damage left. Space that holds nothing is told, and is none.

    \b
    Examples:
      ringminus disk check root.vhdx
      ringminus disk check --repair root.vhdx
    """
    from ringminus.disks.care import check_disk
    from ringminus.disks.findings import Severity

    with interruptible():
        findings = check_disk(path, format, repair)
    damaged = any(found.severity == Severity.DAMAGE and not found.repaired for found in findings)
    if as_json:
        shown = [
            {
                "severity": str(found.severity),
                "message": found.message,
                "repairable": found.repairable,
                "repaired": found.repaired,
            }
            for found in findings
        ]
        click.echo(json.dumps({"path": str(path), "damaged": damaged, "findings": shown}, indent=2))
    else:
        for found in findings:
            done = " (repaired)" if found.repaired else " (--repair mends it)" if found.repairable else ""
            colour = {"damage": "red", "leak": "yellow"}.get(found.severity)
            click.echo(f"{click.style(str(found.severity), fg=colour)}: {found.message}{done}")
        if not findings:
            click.echo(f"{path}: nothing is wrong")
    sys.exit(EXIT_DAMAGED if damaged else 0)


@disk.command()
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@click.option("--format", metavar="NAME", help="The new disk's format; else its name tells.")
@click.option("--source-format", metavar="NAME", help="The old disk's format; else name and contents tell.")
@click.option("--fixed", is_flag=True, help="The new disk takes all its space now.")
@click.option("--sector-size", type=click.Choice(["512", "4096"]), help="Logical sector, of VHDX.")
@click.option("--block-size", metavar="SIZE", help="What is allocated at once, of VHD and VHDX.")
@click.option("--force", is_flag=True, help="Replace TARGET if it is there.")
def convert(
    source: Path,
    target: Path,
    format: str | None,
    source_format: str | None,
    fixed: bool,
    sector_size: str | None,
    block_size: str | None,
    force: bool,
) -> None:
    """Copy a disk into another format.

    SOURCE is copied to a new file TARGET, whose name tells the format. A chain of differencing disks becomes
    one disk. Only what is not zeros is copied. TARGET appears when it is complete; if the command is
    interrupted, nothing is left of it.

    \b
    Examples:
      ringminus disk convert debian.qcow2 root.vhdx
      ringminus disk convert snapshot.avhdx merged.vhdx
      ringminus disk convert root.vhdx root.raw
      ringminus disk convert nbd://server/root root.vhdx
    """
    from ringminus.disks.convert import copy
    from ringminus.disks.create import create_disk, format_to_make
    from ringminus.disks.files import written_beside
    from ringminus.disks.open import open_disk

    name = format_to_make(target, format)
    if os.path.lexists(target) and not force:
        raise ConfigError(f"{target} exists already: --force replaces it")
    with interruptible(), open_disk(source, source_format, read_only=True) as old:
        sector = int(sector_size) if sector_size else old.sector_size if name == "vhdx" else None
        with written_beside(target, force) as beside:
            create_disk(
                beside,
                name,
                old.size,
                fixed=fixed,
                block_size=_size(block_size),
                sector_size=sector if sector in (512, 4096) else None,
            )
            with progress(f"{source} to {target}") as tell, open_disk(beside, name) as new:
                copy(old, new, tell)
    click.echo(f"{target}: {human(old.size)}, {name}")


@disk.command()
@click.argument("path", type=FILE)
@click.argument("size", required=False)
@format_option
@click.option("--minimum", is_flag=True, help="Shrink to what keeps all that is not zeros, in whole MiB.")
@click.option("--cut", is_flag=True, help="Shrink even if data is lost.")
def resize(path: Path, size: str | None, format: str | None, minimum: bool, cut: bool) -> None:
    """Make a disk larger or smaller.

    SIZE is the new size, or what is added, as in +10G. The guest's partitions and file systems stay as they
    are: grow them in the guest afterwards, or shrink them before. Shrinking refuses to cut off anything but
    zeros, unless --cut is given; a GPT has a copy of itself in the last sectors.

    \b
    Examples:
      ringminus disk resize root.vhdx 40G
      ringminus disk resize root.vhdx +10G
      ringminus disk resize root.vhdx --minimum
    """
    from ringminus.disks.care import resize_disk, smallest_size
    from ringminus.disks.open import open_disk

    if (size is None) == (not minimum):
        raise ConfigError("say either a size, such as 40G or +10G, or --minimum")
    with interruptible(), open_disk(path, format) as opened:
        old = opened.size
        wish = _size(size.removeprefix("+")) if size else None
        if size is None or wish is None:
            new = min(old, smallest_size(opened))
        else:
            new = wish + (old if size.startswith("+") else 0)
        resize_disk(opened, new, cut)
    click.echo(f"{path}: {human(old)} before, {human(new)} now")


@disk.command()
@click.argument("path", type=FILE)
@format_option
def compact(path: Path, format: str | None) -> None:
    """Make a disk's file take less space on the host.

    What the guest has given back, and blocks of zeros, lose their place in the file; it becomes shorter where
    the format allows that. Fixed disks of VHD and VHDX stay as they are. In the guest, `fstrim` gives back
    what its file systems do not use. It may be interrupted: the disk stays good.

    \b
    Example:
      ringminus disk compact root.vhdx
    """
    from ringminus.disks.care import compact_disk

    before = _space(path)
    with interruptible(), progress(f"compacting {path}") as tell:
        compact_disk(path, format, tell)
    click.echo(f"{path}: took {human(before)} before, {human(_space(path))} now")


def _space(path: Path) -> int:
    """What a file takes on the host."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0
