"""The demo guest, made from Debian's packages without root."""
