"""The few PC devices that stand beside Hyper-V's synthetic ones."""
