"""Playing one side of a recorded channel again: the guest's against our device, or the host's to a guest."""
