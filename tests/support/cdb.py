"""SCSI commands as bytes."""

from __future__ import annotations

from ringminus.devices.storage import cdb_wire, mmc_wire

TEST_UNIT_READY = cdb_wire.Cdb6(opcode=0x00).pack()


def inquiry(length: int = 96, page: int | None = None) -> bytes:
    flags = 0 if page is None else 1
    return cdb_wire.Inquiry(opcode=0x12, flags=flags, page_code=page or 0, allocation_length=length).pack()


def request_sense(length: int = 18) -> bytes:
    return cdb_wire.RequestSense(opcode=0x03, flags=0, allocation_length=length).pack()


def report_luns(length: int = 4096, select: int = 0) -> bytes:
    return cdb_wire.ReportLuns(opcode=0xA0, select_report=select, allocation_length=length).pack()


def read6(lba: int, blocks: int) -> bytes:
    return _rw6(0x08, lba, blocks)


def write6(lba: int, blocks: int) -> bytes:
    return _rw6(0x0A, lba, blocks)


def _rw6(opcode: int, lba: int, blocks: int) -> bytes:
    return cdb_wire.ReadWrite6(
        opcode=opcode, lba_high=lba >> 16, lba_low=lba & 0xFFFF, transfer_length=blocks
    ).pack()


def read10(lba: int, blocks: int, flags: int = 0) -> bytes:
    return cdb_wire.ReadWrite10(opcode=0x28, flags=flags, lba=lba, transfer_length=blocks).pack()


def write10(lba: int, blocks: int, flags: int = 0) -> bytes:
    return cdb_wire.ReadWrite10(opcode=0x2A, flags=flags, lba=lba, transfer_length=blocks).pack()


def read12(lba: int, blocks: int, flags: int = 0) -> bytes:
    return cdb_wire.ReadWrite12(opcode=0xA8, flags=flags, lba=lba, transfer_length=blocks).pack()


def write12(lba: int, blocks: int, flags: int = 0) -> bytes:
    return cdb_wire.ReadWrite12(opcode=0xAA, flags=flags, lba=lba, transfer_length=blocks).pack()


def read16(lba: int, blocks: int, flags: int = 0) -> bytes:
    return cdb_wire.ReadWrite16(opcode=0x88, flags=flags, lba=lba, transfer_length=blocks).pack()


def write16(lba: int, blocks: int, flags: int = 0) -> bytes:
    return cdb_wire.ReadWrite16(opcode=0x8A, flags=flags, lba=lba, transfer_length=blocks).pack()


def verify10(lba: int, blocks: int, check: int = 0) -> bytes:
    return cdb_wire.Verify10(opcode=0x2F, flags=check << 1, lba=lba, transfer_length=blocks).pack()


def verify16(lba: int, blocks: int, check: int = 0) -> bytes:
    return cdb_wire.Verify16(opcode=0x8F, flags=check << 1, lba=lba, transfer_length=blocks).pack()


def synchronize_cache10(lba: int = 0, blocks: int = 0) -> bytes:
    return cdb_wire.SynchronizeCache10(opcode=0x35, flags=0, lba=lba, number_of_blocks=blocks).pack()


def synchronize_cache16(lba: int = 0, blocks: int = 0) -> bytes:
    return cdb_wire.SynchronizeCache16(opcode=0x91, flags=0, lba=lba, number_of_blocks=blocks).pack()


def read_capacity10() -> bytes:
    return cdb_wire.ReadCapacity10(opcode=0x25, lba=0, pmi=0).pack()


def read_capacity16(length: int = 32) -> bytes:
    return cdb_wire.ReadCapacity16(opcode=0x9E, service_action=0x10, allocation_length=length).pack()


def get_lba_status(lba: int) -> bytes:
    return cdb_wire.GetLbaStatus(opcode=0x9E, service_action=0x12, lba=lba, allocation_length=24).pack()


def mode_sense6(page: int, length: int = 255, control: int = 0, subpage: int = 0) -> bytes:
    return cdb_wire.ModeSense6(
        opcode=0x1A, flags=8, page=control << 6 | page, subpage=subpage, allocation_length=length
    ).pack()


def mode_sense10(page: int, length: int = 255, control: int = 0, subpage: int = 0) -> bytes:
    return cdb_wire.ModeSense10(
        opcode=0x5A, flags=8, page=control << 6 | page, subpage=subpage, allocation_length=length
    ).pack()


def mode_select6(length: int, flags: int = 0x10) -> bytes:
    return cdb_wire.ModeSelect6(opcode=0x15, flags=flags, parameter_list_length=length).pack()


def mode_select10(length: int, flags: int = 0x10) -> bytes:
    return cdb_wire.ModeSelect10(opcode=0x55, flags=flags, parameter_list_length=length).pack()


def unmap(length: int, flags: int = 0) -> bytes:
    return cdb_wire.Unmap(opcode=0x42, flags=flags, parameter_list_length=length).pack()


def write_same10(lba: int, blocks: int, flags: int = 0) -> bytes:
    return cdb_wire.WriteSame10(opcode=0x41, flags=flags, lba=lba, number_of_blocks=blocks).pack()


def write_same16(lba: int, blocks: int, flags: int = 0) -> bytes:
    return cdb_wire.WriteSame16(opcode=0x93, flags=flags, lba=lba, number_of_blocks=blocks).pack()


def log_sense(page: int, length: int = 255) -> bytes:
    return cdb_wire.LogSense(
        opcode=0x4D, flags=0, page=1 << 6 | page, subpage=0, parameter_pointer=0, allocation_length=length
    ).pack()


def supported_opcodes(option: int = 0, opcode: int = 0, action: int = 0, length: int = 4096) -> bytes:
    return cdb_wire.ReportSupportedOperationCodes(
        opcode=0xA3,
        service_action=0x0C,
        options=option,
        requested_opcode=opcode,
        requested_service_action=action,
        allocation_length=length,
    ).pack()


def start_stop(*, start: bool, eject: bool = False) -> bytes:
    return cdb_wire.StartStopUnit(opcode=0x1B, immediate=0, flags=start | eject << 1).pack()


def prevent_removal(locked: bool) -> bytes:
    return cdb_wire.PreventAllowMediumRemoval(opcode=0x1E, prevent=locked).pack()


def read_toc(format: int = 0, track: int = 0, flags: int = 0, control: int = 0, length: int = 804) -> bytes:
    return mmc_wire.ReadToc(
        opcode=0x43, flags=flags, format=format, track=track, allocation_length=length, control=control
    ).pack()


def get_configuration(kind: int = 0, feature: int = 0, length: int = 4096) -> bytes:
    return mmc_wire.GetConfiguration(
        opcode=0x46, request_type=kind, starting_feature=feature, allocation_length=length
    ).pack()


def get_event_status(classes: int = 1 << 4, polled: int = 1, length: int = 8) -> bytes:
    return mmc_wire.GetEventStatusNotification(
        opcode=0x4A, polled=polled, classes=classes, allocation_length=length
    ).pack()


def read_disc_information(length: int = 34) -> bytes:
    return mmc_wire.ReadDiscInformation(opcode=0x51, data_type=0, allocation_length=length).pack()


def read_track_information(kind: int, address: int) -> bytes:
    return mmc_wire.ReadTrackInformation(
        opcode=0x52, address_type=kind, address=address, allocation_length=36
    ).pack()
