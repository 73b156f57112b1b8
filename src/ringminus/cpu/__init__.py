"""The processor: AMD-V in software."""
