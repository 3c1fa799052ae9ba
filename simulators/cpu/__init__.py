"""The engine of the CPU: kernels compiled by numba, and their threads."""
