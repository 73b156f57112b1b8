"""Looking for damage in VHD files, and mending what can be mended without guessing."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ringminus.disks.disk import CorruptDisk, DiskError
from ringminus.disks.files import HostFile
from ringminus.disks.findings import Finding, Severity
from ringminus.disks.vhd import parents
from ringminus.disks.vhd.blocks import Blocks
from ringminus.disks.vhd.footer import FoundFooter, find_footer, read_header
from ringminus.disks.vhd.opening import open_vhd
from ringminus.disks.vhd.table import BlockTable
from ringminus.disks.vhd.wire import SECTOR, DiskType, DynamicHeader, Footer


def check_vhd(path: Path, repair: bool = False) -> list[Finding]:
    """What is wrong with a VHD; `repair` mends it where possible. Raises `DiskError` if it cannot look."""
    with contextlib.closing(HostFile(path, read_only=not repair)) as file:
        try:
            found = find_footer(file)
            if found.footer.disk_type == DiskType.FIXED:
                return _check_fixed(file, found)
            header = read_header(file, found.footer)
            table = BlockTable(file, found.footer, header)
        except CorruptDisk as damage:
            return [Finding(Severity.DAMAGE, str(damage))]
        findings = _check_table(file, table, repair)
        findings += _check_footers(file, found, table, repair)
        if found.footer.disk_type == DiskType.DIFFERENCING:
            findings += _check_parent(file, found, header, repair)
        return findings + _notes(found.footer)


def _notes(footer: Footer) -> list[Finding]:
    if not footer.saved_state:
        return []
    return [Finding(Severity.NOTE, "the disk belongs to a machine that was saved while it ran")]


def _check_fixed(file: HostFile, found: FoundFooter) -> list[Finding]:
    size, footer = file.size, found.footer
    stored = -(-size // SECTOR) * SECTOR - SECTOR
    if footer.current_size > stored:
        message = f"cut off: a disk of {footer.current_size} bytes, of which the file has {stored}"
        return [Finding(Severity.DAMAGE, message), *_notes(footer)]
    if footer.current_size < stored:
        message = f"{stored - footer.current_size} bytes between the disk's end and the footer"
        return [Finding(Severity.LEAK, message), *_notes(footer)]
    return _notes(footer)


def _check_footers(file: HostFile, found: FoundFooter, table: BlockTable, repair: bool) -> list[Finding]:
    findings = []
    blocks = Blocks(file, found.footer, table, found.footer.disk_type == DiskType.DIFFERENCING)
    if not found.at_end:
        if repair:
            blocks.restore_footer()
        message = "the footer at the end is missing or damaged; the copy at the beginning is good"
        findings.append(Finding(Severity.DAMAGE, message, repairable=True, repaired=repair))
    elif file.read_at(0, SECTOR) != found.footer.pack():
        if repair:
            file.write_at(0, found.footer.pack())
        message = "the footer's copy at the beginning differs from the footer"
        findings.append(Finding(Severity.DAMAGE, message, repairable=True, repaired=repair))
    if repair:
        file.flush()
    return findings


def _check_table(file: HostFile, table: BlockTable, repair: bool) -> list[Finding]:
    findings, dropped, size = [], [], file.size
    for number, problem in sorted(table.problems(size).items()):
        cut_off = "behind the end" in problem
        if cut_off and repair:
            table.set(number, 0)
            dropped.append(number)
        message = f"block {number} {problem}"
        findings.append(Finding(Severity.DAMAGE, message, repairable=cut_off, repaired=cut_off and repair))
    if dropped:
        table.write(dropped)
        file.flush()
    unused = table.unused_space(size - SECTOR)
    if unused and not findings:
        message = f"{unused} bytes of the file hold nothing: ringminus disk compact gives them back"
        findings.append(Finding(Severity.LEAK, message))
    return findings


def _check_parent(file: HostFile, found: FoundFooter, header: DynamicHeader, repair: bool) -> list[Finding]:
    try:
        path = parents.find(file, header)
        with open_vhd(path, read_only=True) as parent:
            if parent.identity.bytes_le == header.parent_unique_id and not parents.same_time(header, path):
                if repair:
                    parents.accept_parent(file, found.footer.data_offset, header, path)
                message = f"the parent {path} was changed after this disk was made, or copied anew"
                return [Finding(Severity.DAMAGE, message, True, repair)]
            parents.verify(file, header, path, parent.identity.bytes_le)
            if parent.size != found.footer.current_size:
                message = f"the parent {path} has {parent.size} bytes, this disk {found.footer.current_size}"
                return [Finding(Severity.DAMAGE, message)]
    except DiskError as error:
        return [Finding(Severity.DAMAGE, str(error))]
    return []
