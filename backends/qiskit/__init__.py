"""Devices and emulators that Qiskit can use, and the translation of circuits for them."""
