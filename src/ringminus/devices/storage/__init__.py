"""Synthetic storage (storvsp.sys, vmsynthstor.dll): SCSI controllers, IDE disks, DVD drives."""
