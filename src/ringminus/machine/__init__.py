"""One virtual machine: memory map, ACPI, chipset, loader, and the worker that runs it."""
