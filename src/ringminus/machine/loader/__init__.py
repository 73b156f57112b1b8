"""Getting a kernel into guest memory: recognise the file, extract it, place it, set the registers."""
