"""VHDX, Hyper-V's own format of virtual disks. Source: [MS-VHDX]."""

from ringminus.disks.vhdx.check import check_vhdx
from ringminus.disks.vhdx.compact import compact_vhdx
from ringminus.disks.vhdx.create import create_vhdx
from ringminus.disks.vhdx.disk import Vhdx
from ringminus.disks.vhdx.open import open_vhdx

__all__ = ["Vhdx", "check_vhdx", "compact_vhdx", "create_vhdx", "open_vhdx"]
