"""The arithmetic of the fast CPU kernel: powers of two, numbers of any size, and the machine code of its inner loops."""

import math

import llvmlite.binding
import numba
import numpy as np
import pytest

from alignment.fast_cpu_kernel import random_cost
from softscribe.alignment.cpu import scaled_kernels
from softscribe.alignment.cpu.diagonal_kernels import LANES, STATE, backward_diagonal, forward_diagonal, forward_diagonal_of_one_factor


@numba.njit(**scaled_kernels.COMPILED)
def power_and_exponent(costs, factor, same_factor, rest, powers, exponents):
    for i in range(len(costs)):
        exponents[i] = scaled_kernels.nearest_exponent(costs[i], same_factor)
        powers[i] = scaled_kernels.power_of_two(costs[i], factor, rest, exponents[i])


def test_powers_of_two_are_exact_to_the_last_bits():
    nodes = np.cos(np.pi * (np.arange(6) + 0.5) / 6) / 2
    expected = np.linalg.solve(np.vander(nodes, increasing=True), (np.exp2(nodes) - 1) / nodes)
    found = [getattr(scaled_kernels, f"P{i}") for i in range(6)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    costs = (random_cost(30_000) * 10.0 ** np.random.default_rng(0).integers(-6, 4, 30_000)).astype(np.float32)
    factor, rest, powers, exponents = np.float32(-144.3), np.float32(3e-6), np.empty_like(costs), np.empty_like(costs, np.int32)
    power_and_exponent(costs, factor, factor, rest, powers, exponents)
    np.testing.assert_array_equal(exponents, np.rint(costs.astype(float) * float(factor)))
    exact = costs.astype(float) * (float(factor) + float(rest))
    np.testing.assert_allclose(powers, np.exp2(exact - exponents), rtol=2e-7)


def test_numbers_of_any_size():
    for x in (1.0, 1.5, 1e-30, 3.7e25, 0.99999994):
        mantissa, exponent = scaled_kernels.mantissa_of(np.float32(x)), scaled_kernels.exponent_of(np.float32(x))
        assert 1 <= mantissa < 2
        assert math.ldexp(float(mantissa), int(exponent)) == np.float32(x)
    assert scaled_kernels.shifted(np.float32(1.5), np.int32(-3)) == 0.1875
    assert scaled_kernels.shifted(np.float32(1.5), np.int32(-127)) == 0
    assert scaled_kernels.shifted(np.float32(1.5), np.int32(scaled_kernels.NEVER - 2**28)) == 0


@pytest.mark.parametrize("kernel", [forward_diagonal, forward_diagonal_of_one_factor, backward_diagonal])
def test_the_inner_loops_are_vectorised(kernel):
    if "+avx2" not in llvmlite.binding.get_host_cpu_features().flatten():
        pytest.skip("this processor has no AVX2")
    lanes, state, triple = np.ones(LANES, np.float32), np.ones(STATE, np.float32), (np.float32(1),) * 3
    fresh = numba.njit(**{**scaled_kernels.COMPILED, "cache": False})(kernel.py_func)  # code from the cache cannot be looked at
    if kernel is forward_diagonal:
        four, limits = (np.float32(1),) * 4, (np.int32(1),) * 3
        fresh(lanes, state, state.copy(), state.copy(), np.ones(2 * LANES, np.float32), four, four, four, limits)
    elif kernel is forward_diagonal_of_one_factor:
        one = np.float32(1)
        fresh(lanes, state, state.copy(), state.copy(), np.ones(2 * LANES, np.float32), one, one, one, np.int32(-1))
    else:
        fresh(np.ones(2 * LANES, np.float32), state, lanes, triple, np.float32(0))
    (assembly,) = fresh.inspect_asm().values()
    wide = [line for line in assembly.splitlines() if "%ymm" in line or "%zmm" in line]
    assert sum("mulps" in line or "fmadd" in line for line in wide) >= 4
    assert not any("gather" in line for line in wide)
