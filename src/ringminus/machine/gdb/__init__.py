"""A server for gdb: the guest's processors as threads of a remote target."""
