"""Network address translation for guests: the host's network as the host's own programs see it, without
privileges, by libslirp (Hyper-V has it as WinNAT behind its default switch)."""
