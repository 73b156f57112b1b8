"""Disks behind the Network Block Device protocol: existing servers, and QEMU's formats through qemu-nbd."""
