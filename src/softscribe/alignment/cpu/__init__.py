"""Alignment on the CPU, by Numba."""
