"""Synthetic network adapters (VmSynthNic.dll): NVSP, RNDIS, buffers, offloads."""
