"""Links between processes: network adapters of several workers on one named switch, and its control.

`client` is a worker's end, `server` that of the switch's process; `wire` declares what passes between them,
`stream` cuts and joins it, `documents` checks what is said in JSON, `control` asks from a command."""
