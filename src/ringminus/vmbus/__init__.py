"""The bus: so far its control plane, on which a guest's driver connects and finds no channel yet."""
