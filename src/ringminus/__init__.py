"""A Hyper-V-compatible hypervisor and virtualization stack in Python."""

__version__ = "0.1.0"
