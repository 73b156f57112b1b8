"""The virtual switch, and what can be plugged into it (Hyper-V's vmswitch, vmsproxy, vmsif)."""
