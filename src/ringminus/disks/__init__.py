"""Virtual disks: what Hyper-V's virtdisk does. Formats are `Disk`s; see `disk`."""
