"""Run the same circuit on devices and their emulators. Arrives with the device path."""
