"""Alignment on GPUs, by Numba-CUDA. Nothing here is imported before a tensor on a GPU comes."""
