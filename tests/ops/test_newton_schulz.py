"""Newton-Schulz against its theory: an odd polynomial of the singular values, near 1 on a known interval.

The bounds below are extremes of the composed scalar polynomial p over relative singular values s / |M|_F in
[0.01, 1]: [0.9777, 1.0318] for the five tuned triples, [0.8702, 1.1236] for five Polar Express steps
(Amsel et al. 2025, arXiv:2505.16932; the paper's safety factor 1.01 included).
"""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from lact_asr_model.ops.newton_schulz import SCHEDULES as TRIPLES
from lact_asr_model.ops.newton_schulz import _iterate, _Iteration, newton_schulz

SCHEDULES = ("muon", "polar_express")
TOLERANCE = {"muon": 0.035, "polar_express": 0.13}
SMALLEST_RELATIVE_SINGULAR_VALUE = 0.01
PUBLISHED_MUON_TRIPLES = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)


def matrix_with_singular_values(values: torch.Tensor, rows: int, columns: int, seed: int) -> torch.Tensor:
    """A float64 [rows, columns] matrix with random singular vectors."""
    generator = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, len(values), generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(columns, len(values), generator=generator, dtype=torch.float64))
    return left @ torch.diag(values) @ right.mT


def random_matrices(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (8, 48), (48, 8), (1, 7), (7, 1), (1, 1)])
def test_singular_values_become_one(schedule: str, rows: int, columns: int) -> None:
    rank = min(rows, columns)
    values = torch.linspace(1.0, 0.1, rank, dtype=torch.float64)
    assert values.min() / values.norm() > SMALLEST_RELATIVE_SINGULAR_VALUE
    result = newton_schulz(matrix_with_singular_values(values, rows, columns, seed=1), schedule)
    assert result.shape == (rows, columns)
    assert (torch.linalg.svdvals(result) - 1).abs().max() < TOLERANCE[schedule]


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(rows=st.integers(1, 24), columns=st.integers(1, 24), smallest=st.floats(0.06, 1.0), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_singular_values_become_one_for_any_shape(
    schedule: str, rows: int, columns: int, smallest: float, seed: int
) -> None:
    values = torch.linspace(1.0, smallest, min(rows, columns), dtype=torch.float64)
    result = newton_schulz(matrix_with_singular_values(values, rows, columns, seed), schedule)
    assert (torch.linalg.svdvals(result) - 1).abs().max() < TOLERANCE[schedule]


def test_muon_schedule_is_the_published_polynomial_of_the_singular_values() -> None:
    matrix = random_matrices(12, 30)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / values.norm()
    for a, b, c in PUBLISHED_MUON_TRIPLES:
        values = a * values + b * values**3 + c * values**5
    expected = left @ torch.diag(values) @ right
    assert (newton_schulz(matrix, "muon") - expected).abs().max() < 1e-6


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_singular_vectors_are_kept(schedule: str) -> None:
    """Whatever the polynomial is: equal singular values give equal new ones, and the vectors stay."""
    values = torch.tensor([1.0, 0.7, 0.2, 0.05], dtype=torch.float64)
    on_diagonal = newton_schulz(torch.diag(values), schedule)
    assert (on_diagonal - torch.diag(on_diagonal.diagonal())).abs().max() < 1e-12
    left, _ = torch.linalg.qr(random_matrices(9, 4, seed=2))
    right, _ = torch.linalg.qr(random_matrices(6, 4, seed=3))
    result = newton_schulz(left @ torch.diag(values) @ right.mT, schedule)
    assert (result - left @ on_diagonal @ right.mT).abs().max() < 1e-10


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_stays_zero(schedule: str, dtype: torch.dtype) -> None:
    assert torch.equal(newton_schulz(torch.zeros(2, 5, 3, dtype=dtype), schedule), torch.zeros(2, 5, 3, dtype=dtype))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_gradient_at_zero_is_finite(schedule: str) -> None:
    """A silent or fully masked utterance has Δ = 0; training through it must not produce NaN."""
    matrix = torch.zeros(1, 4, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(newton_schulz(matrix, schedule).sum(), matrix)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("scale", [1e-4, 1e-2, 3.0, 1e6])
def test_scale_does_not_matter(schedule: str, scale: float) -> None:
    matrix = random_matrices(6, 10)
    difference = (newton_schulz(scale * matrix, schedule) - newton_schulz(matrix, schedule)).abs().max()
    assert difference < 1e-4


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_sign_flips_with_the_sign(schedule: str) -> None:
    matrix = random_matrices(6, 10)
    assert torch.equal(newton_schulz(-matrix, schedule), -newton_schulz(matrix, schedule))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("shape", [(7, 7), (3, 20), (20, 3), (2, 4, 5, 9)])
def test_transposition_commutes(schedule: str, shape: tuple[int, ...]) -> None:
    matrices = random_matrices(*shape)
    difference = newton_schulz(matrices.mT, schedule) - newton_schulz(matrices, schedule).mT
    assert difference.abs().max() < 1e-10


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_batched_equals_one_by_one(schedule: str) -> None:
    """Each matrix is normalised by its own norm: a loud neighbour in the batch changes nothing."""
    matrices = random_matrices(2, 3, 6, 9) * torch.tensor([1.0, 1000.0], dtype=torch.float64).view(2, 1, 1, 1)
    together = newton_schulz(matrices, schedule)
    for index in range(2):
        for head in range(3):
            assert (together[index, head] - newton_schulz(matrices[index, head], schedule)).abs().max() < 1e-10


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_float32_agrees_with_float64(schedule: str) -> None:
    matrix = random_matrices(24, 64)
    single = newton_schulz(matrix.float(), schedule)
    assert single.dtype == torch.float32
    assert (single.double() - newton_schulz(matrix, schedule)).abs().max() < 1e-4


def test_schedules_differ() -> None:
    matrix = random_matrices(6, 10)
    assert not torch.allclose(newton_schulz(matrix, "muon"), newton_schulz(matrix, "polar_express"), atol=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("rows", "columns"), [(40, 60), (40, 80), (40, 400), (400, 40)])
@pytest.mark.parametrize("rank", [40, 7])
def test_single_precision_follows_the_scalar_polynomial(schedule: str, rows: int, columns: int, rank: int) -> None:
    """Singular values from 1 to 1/1000, or none at all, however the products are ordered."""
    values = torch.logspace(0, -3, rank, dtype=torch.float64)
    matrix = matrix_with_singular_values(values, rows, columns, seed=3)
    mapped = values / values.norm()
    for a, b, c in TRIPLES[schedule]:
        mapped = a * mapped + b * mapped**3 + c * mapped**5
    expected = matrix_with_singular_values(mapped, rows, columns, seed=3)
    assert (newton_schulz(matrix.float(), schedule) - expected).abs().max() < 1e-3


def gradients_of_first_and_second_order(matrix: torch.Tensor, schedule: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a function of the result that is not linear, at a copy of the matrix."""
    matrix = matrix.clone().requires_grad_()
    weights = random_matrices(*matrix.shape, seed=5)
    loss = (newton_schulz(matrix, schedule).sin() * weights).sum()
    (first,) = torch.autograd.grad(loss, matrix, create_graph=True)
    (second,) = torch.autograd.grad((first.cos() * weights).sum(), matrix)
    return first.detach(), second


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("shape", [(9, 9), (5, 12), (12, 5), (2, 3, 6, 8)])
def test_the_backward_pass_is_that_of_automatic_differentiation(schedule: str, shape: tuple[int, ...]) -> None:
    matrix = random_matrices(*shape)
    first, second = gradients_of_first_and_second_order(matrix, schedule)
    with patch.object(_Iteration, "apply", _iterate):
        expected_first, expected_second = gradients_of_first_and_second_order(matrix, schedule)
    assert (first - expected_first).abs().max() < 1e-12 * expected_first.abs().max()
    assert (second - expected_second).abs().max() < 1e-12 * expected_second.abs().max()


@pytest.mark.parametrize("shape", [(3, 5), (4, 3), (2, 3, 3)])
def test_gradients_of_both_orders_are_finite_differences(shape: tuple[int, ...]) -> None:
    matrix = random_matrices(*shape).requires_grad_()
    assert torch.autograd.gradcheck(newton_schulz, matrix)
    assert torch.autograd.gradgradcheck(newton_schulz, matrix)


def test_an_iteration_takes_three_products_and_four_to_go_back() -> None:
    size = 8
    matrix = random_matrices(size, size).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        newton_schulz(matrix).sum().backward()
    assert counter.get_total_flops() == 5 * (3 + 4) * 2 * size**3


def test_in_mixed_precision_the_products_are_small_and_the_gradient_is_not() -> None:
    matrix = random_matrices(12, 20, dtype=torch.float32).requires_grad_()
    weights = random_matrices(12, 20, seed=5, dtype=torch.float32)
    (expected,) = torch.autograd.grad((newton_schulz(matrix) * weights).sum(), matrix)
    with torch.autocast("cpu", torch.bfloat16):
        loss = (newton_schulz(matrix) * weights).sum()
    (gradient,) = torch.autograd.grad(loss, matrix)
    assert gradient.dtype == torch.float32
    assert 0 < (gradient - expected).norm() < 0.1 * expected.norm()


def test_it_can_be_transformed_and_compiled() -> None:
    matrices, weights = random_matrices(3, 4, 6), random_matrices(4, 6, seed=5)

    def loss(matrix: torch.Tensor) -> torch.Tensor:
        return (newton_schulz(matrix) * weights).sum()

    expected = [torch.autograd.grad(loss(each), each)[0] for each in matrices.clone().requires_grad_().unbind()]
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(matrices), torch.stack(expected))
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    matrix = matrices[0].clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(compiled(matrix), matrix)[0], expected[0])
