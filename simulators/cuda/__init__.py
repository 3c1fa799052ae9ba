"""The engine of CUDA devices: the sources of its kernels, their plan and launch."""
