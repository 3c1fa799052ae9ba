"""Devices and emulators that Qiskit reaches, and what it takes to send circuits there."""
