"""The control plane: which channels there are, what the guest may do with them, and what it is told.

Sans-I/O: `plane` takes messages and gives `actions`. `messages` is the table of all messages.
"""
