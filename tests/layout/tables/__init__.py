"""Which structure of ours is which of the kernel, a module for each part that has declarations.

`SAME` are compared, `NUMBERS` and `BITS` too, and `NOT_IN_LINUX` has the reason for each structure, or
module of structures, that cannot be. A structure that Linux has changed has an entry for each form, and one
of them must be right.
"""
