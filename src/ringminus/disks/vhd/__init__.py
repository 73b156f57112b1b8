"""VHD, the format of Virtual PC and of Hyper-V before VHDX: fixed, dynamic and differencing disks."""

from ringminus.disks.vhd.check import check_vhd
from ringminus.disks.vhd.compact import compact_vhd
from ringminus.disks.vhd.create import create_vhd
from ringminus.disks.vhd.opening import open_vhd

__all__ = ["check_vhd", "compact_vhd", "create_vhd", "open_vhd"]
