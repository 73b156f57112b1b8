"""Ring −1: partitions, virtual processors, CPUID, MSRs, hypercalls, SynIC, timers, local APIC."""
