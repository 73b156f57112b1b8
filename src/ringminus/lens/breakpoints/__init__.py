"""Breakpoints: filters at whose events the guest stands still while a person looks, changes and goes on."""
