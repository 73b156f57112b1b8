"""The three kinds of failure that a person can meet, and nothing else.

Any other exception that reaches a person is a bug of ours and keeps its stack trace.
"""

from __future__ import annotations


class RingminusError(Exception):
    """Base of every error that is reported in one line."""


class GuestError(RingminusError):
    """The guest broke a protocol or named memory that it does not have.

    It is answered as the specification says, counted and logged; the worker lives on.
    """


class ConfigError(RingminusError):
    """The person asked for something impossible; the message says what to change."""


class HostError(RingminusError):
    """A file, a permission or a library is missing; the message says how to get it."""
