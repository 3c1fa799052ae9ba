"""The backends as a PennyLane device, and the tapes that it is given."""
