"""PennyLane devices as backends, and backends as a PennyLane device."""
