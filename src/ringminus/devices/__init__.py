"""The synthetic devices: Hyper-V's virtual service providers."""
