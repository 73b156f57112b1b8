"""The boundary made visible: listeners of the tap."""
