import os
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

if not os.environ.get("CI"):  # in CI a missing torch is a failure
    pytest.importorskip("torch")
import torch

from generator.quantize.uniform import (
    asymmetric_grid,
    dequantize,
    in_groups,
    out_of_groups,
    pack,
    quantize,
    snap,
    symmetric_grid,
    unpack,
)

GRIDS = [symmetric_grid, asymmetric_grid, *(partial(g, half=True) for g in (symmetric_grid, asymmetric_grid))]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@st.composite
def matrices(draw):
    """Matrices of many shapes, sizes and dtypes: normal values times a power of ten, some rows zero."""
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 17))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    x = torch.randn(rows, columns, generator=generator) * 10.0 ** draw(st.integers(-9, 4))
    if draw(st.booleans()):
        x = x.abs()
    x[draw(st.integers(0, rows - 1))] *= draw(st.sampled_from([0.0, 1.0]))
    return x.to(draw(st.sampled_from(DTYPES)))


def test_symmetric_by_hand():
    # 3 bits: −3 … 3, s = 1.5 / 3 = 0.5; 0.25 / 0.5 is rounded to even.
    x = torch.tensor([[1.5, -0.7, 0.25, 0.3]])
    grid = symmetric_grid(x, 3, dim=1, half=True)
    assert grid.s.item() == 0.5
    assert quantize(x, grid).tolist() == [[3, -1, 0, 1]]
    assert dequantize(quantize(x, grid), grid).tolist() == [[1.5, -0.5, 0.0, 0.5]]


def test_asymmetric_by_hand():
    # 2 bits: 0 … 3 over [−1, 2], s = 1, z = 1.
    x = torch.tensor([[-1.0, 0.0, 0.6, 2.0]])
    grid = asymmetric_grid(x, 2, dim=1)
    assert (grid.s.item(), grid.z.item()) == (1.0, 1.0)
    assert quantize(x, grid).tolist() == [[0, 1, 2, 3]]
    assert dequantize(quantize(x, grid), grid).tolist() == [[-1.0, 0.0, 1.0, 2.0]]


@pytest.mark.parametrize("make_grid", GRIDS)
@given(x=matrices(), bits=st.integers(2, 8))
def test_round_trip_errs_by_half_a_step_at_most(make_grid, x, bits):
    grid = make_grid(x, bits, dim=1)
    q = quantize(x, grid)
    assert q.dtype is (torch.int8 if grid.q_min < 0 else torch.uint8)
    assert grid.s.dtype is (torch.float16 if isinstance(make_grid, partial) else torch.float32)
    assert grid.q_min <= q.min() and q.max() <= grid.q_max
    error = (dequantize(q, grid).double() - x.double()).abs()
    # 2⁻²⁰ of the largest value: float32 rounding of the division and the product.
    slack = x.double().abs().amax(1, keepdim=True) * 2**-20
    assert (error <= grid.s.double() / 2 + slack).all()


@pytest.mark.parametrize("make_grid", GRIDS)
@given(x=matrices(), bits=st.integers(2, 8))
def test_zero_is_on_the_grid(make_grid, x, bits):
    x[:, 0] = 0
    grid = make_grid(x, bits, dim=1)
    assert (dequantize(quantize(x, grid), grid)[:, 0] == 0).all()


@pytest.mark.parametrize("make_grid", GRIDS)
@given(x=matrices())
def test_largest_error_bound_falls_with_bits(make_grid, x):
    steps = [make_grid(x, bits, dim=1).s.float() for bits in range(2, 9)]
    assert all((fine <= coarse).all() for coarse, fine in pairwise(steps))


@pytest.mark.parametrize("make_grid", GRIDS)
def test_mean_error_falls_with_bits(make_grid):
    x = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    errors = [(snap(x, make_grid(x, bits, dim=1)) - x).square().mean().item() for bits in range(2, 9)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("make_grid", GRIDS)
@given(x=matrices(), bits=st.integers(2, 8))
def test_snap_is_quantize_and_back(make_grid, x, bits):
    grid = make_grid(x, bits, dim=1)
    snapped = snap(x, grid)
    assert snapped.dtype is x.dtype
    assert torch.equal(snapped, dequantize(quantize(x, grid), grid).to(x.dtype))


@pytest.mark.parametrize("make_grid", GRIDS)
@pytest.mark.parametrize("value", [0.0, 3.5, -2.0, 1e-42])
def test_constant_tensors(make_grid, value):
    x = torch.full((2, 3), value)
    back = dequantize(quantize(x, make_grid(x, 8, dim=1)), make_grid(x, 8, dim=1))
    assert torch.allclose(back, x, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("make_grid", GRIDS[2:])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
def test_weights_without_an_fp16_scale_are_refused(make_grid, value):
    with pytest.raises(ValueError, match="no fp16 scale"):
        make_grid(torch.tensor([[1.0, value]]), 8, dim=1)


@pytest.mark.parametrize("make_grid", GRIDS)
@pytest.mark.parametrize("bits", [1, 9, 16])
def test_bits_out_of_range_are_refused(make_grid, bits):
    with pytest.raises(ValueError, match="2 to 8"):
        make_grid(torch.ones(1, 1), bits, dim=1)


@pytest.mark.parametrize("make_grid", GRIDS)
def test_rules_by_a_plain_second_computation(make_grid):
    x = torch.randn(3, 2000, generator=torch.Generator().manual_seed(0))
    x[:, 0] = 40.0
    errors = {}
    for rule in ("min-max", "percentile", "mse"):
        grid = make_grid(x, 4, 1, rule)
        errors[rule] = (snap(x, grid) - x).square().sum(1)
    shares = []
    for share in range(100, 28, -2):
        low, high = (share / 100 * end for end in x.aminmax(dim=1, keepdim=True))
        grid = make_grid(torch.cat([low, high], 1), 4, 1)
        shares.append((snap(x, grid) - x).square().sum(1))
    assert torch.allclose(errors["mse"], torch.stack(shares).amin(0), rtol=1e-3)
    assert (errors["mse"] < 0.9 * errors["min-max"]).all()
    # One value of 2,000 is outside the central 99.9 %, so percentile grids do not see the outlier.
    assert (make_grid(x, 4, 1, "percentile").s < 0.2 * make_grid(x, 4, 1).s).all()
    with pytest.raises(ValueError, match="rule 'best'"):
        make_grid(x, 4, 1, "best")


@given(n=st.integers(1, 20), group=st.integers(1, 9))
def test_groups_are_consecutive_and_come_back(n, group):
    x = torch.arange(1.0, 2 * n + 1).view(2, n)
    groups = in_groups(x, group)
    assert groups.shape == (2, -(-n // group), group)
    assert groups[0, 0].tolist() == [*range(1, min(n, group) + 1), *[0] * (group - n)]
    assert torch.equal(out_of_groups(groups, n), x)


def test_pack_by_hand():
    assert pack(torch.tensor([1, -1, 7], dtype=torch.int8), 4).tolist() == [0xF1, 0x07]
    # 01, 11 and 10 from the lowest bit up, and 101, 011, 110 over a byte's end.
    assert pack(torch.tensor([1, -1, -2], dtype=torch.int8), 2).tolist() == [0b101101]
    assert pack(torch.tensor([5, 3, 6], dtype=torch.uint8), 3).tolist() == [0b10_011_101, 0b1]


@given(data=st.data(), bits=st.integers(2, 8), signed=st.booleans(), rows=st.integers(1, 3))
def test_packed_is_unpacked(data, bits, signed, rows):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    values = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=20))
    q = torch.tensor([values] * rows, dtype=torch.int8 if signed else torch.uint8)
    packed = pack(q, bits)
    assert packed.shape == (rows, -(-len(values) * bits // 8))
    back = unpack(packed, bits, len(values), signed=signed)
    assert back.dtype is q.dtype and torch.equal(back, q)
