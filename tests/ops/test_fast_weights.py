"""The closed form of the layer memory against two derivations by autograd: the package's oracle and this file's own."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from lact_asr_model.ops.fast_weights import closed_form as fast
from lact_asr_model.ops.fast_weights import naive
from lact_asr_model.ops.fast_weights.closed_form import FastWeights
from lact_asr_model.ops.newton_schulz import newton_schulz

CHUNK_SIZE = 96
LENGTHS = (1, 63, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1)
TOLERANCE = 1e-9  # float64


class Inputs:
    """Random float64 inputs: weights shared by the batch (leading dim 1) or one set an utterance."""

    def __init__(
        self, length: int, num_heads: int = 4, batch_size: int = 2, shared_weights: bool = False, seed: int = 0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        head_size, hidden_size = 6, 10

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        copies = 1 if shared_weights else batch_size
        self.weights = FastWeights(
            normal(copies, num_heads, head_size, hidden_size) / head_size**0.5,
            normal(copies, num_heads, hidden_size, head_size) / hidden_size**0.5,
            normal(copies, num_heads, head_size, hidden_size) / head_size**0.5,
        )
        self.keys = F.normalize(F.silu(normal(batch_size, num_heads, length, head_size)), dim=-1)
        self.values = F.silu(normal(batch_size, num_heads, length, head_size))
        self.queries = F.normalize(F.silu(normal(batch_size, num_heads, length, head_size)), dim=-1)
        self.learning_rates = F.softplus(normal(3, batch_size, num_heads, length))
        self.output_weights = normal(batch_size, num_heads, length, head_size)

    def leaves(self) -> list[torch.Tensor]:
        tensors = [*self.weights, self.keys, self.values, self.learning_rates, self.queries]
        return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def swiglu(x: torch.Tensor, w0: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor) -> torch.Tensor:
    """f(x) = (silu(x W0) * (x W2)) W1, written without the package."""
    gate = x @ w0
    return (gate * torch.sigmoid(gate) * (x @ w2)) @ w1


def derived_update(
    weights: FastWeights, keys: torch.Tensor, values: torch.Tensor, learning_rates: torch.Tensor, muon: bool
) -> list[torch.Tensor]:
    """W + Δ with Δ = -d(-Σ η_i f(k)·v)/dW_i, each matrix with its own η_i, then every column's norm restored."""
    updated = []
    batch_size = keys.shape[0]
    expanded = [weight.expand(batch_size, -1, -1, -1) for weight in weights]
    for index, weight in enumerate(expanded):
        agreement = (swiglu(keys, *expanded) * values).sum(-1)
        loss = -(learning_rates[index] * agreement).sum()
        (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
        step = newton_schulz(-gradient, "muon") if muon else -gradient
        moved = weight + step
        old_norm = weight.square().sum(-2, keepdim=True).sqrt()
        new_norm = moved.square().sum(-2, keepdim=True).sqrt()
        updated.append(moved / new_norm * old_norm)
    return updated


def derived_run(leaves: list[torch.Tensor], muon: bool) -> torch.Tensor:
    w0, w1, w2, keys, values, learning_rates, queries = leaves
    updated = derived_update(FastWeights(w0, w1, w2), keys, values, learning_rates, muon)
    return swiglu(queries, *updated)


def oracle_run(leaves: list[torch.Tensor], muon: bool) -> torch.Tensor:
    w0, w1, w2, keys, values, learning_rates, queries = leaves
    updated = naive.update_fast_weights(
        FastWeights(w0, w1, w2), keys, values, learning_rates, muon=muon, schedule="muon"
    )
    return naive.apply_fast_weights(updated, queries)


def closed_form_run(leaves: list[torch.Tensor], muon: bool, chunk_size: int) -> torch.Tensor:
    w0, w1, w2, keys, values, learning_rates, queries = leaves
    updated = fast.update_fast_weights(
        FastWeights(w0, w1, w2), keys, values, learning_rates, muon=muon, schedule="muon", chunk_size=chunk_size
    )
    return fast.apply_fast_weights(updated, queries, chunk_size)


def output_and_gradients(
    run: Callable[[list[torch.Tensor]], torch.Tensor], inputs: Inputs
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    leaves = inputs.leaves()
    output = run(leaves)
    return output.detach(), torch.autograd.grad((output * inputs.output_weights).sum(), leaves)


def update(inputs: Inputs, muon: bool = True, chunk_size: int = CHUNK_SIZE, **changed: torch.Tensor) -> FastWeights:
    arguments = {"keys": inputs.keys, "values": inputs.values, "learning_rates": inputs.learning_rates, **changed}
    return fast.update_fast_weights(inputs.weights, **arguments, muon=muon, schedule="muon", chunk_size=chunk_size)


def largest_difference(left: FastWeights, right: FastWeights) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(left, right, strict=True))


@pytest.mark.parametrize("muon", [True, False])
@pytest.mark.parametrize("num_heads", [1, 4])
@pytest.mark.parametrize("length", LENGTHS)
def test_closed_form_equals_both_derivations(length: int, num_heads: int, muon: bool) -> None:
    """Output, and gradient with respect to every weight, key, value, learning rate and query."""
    inputs = Inputs(length, num_heads)
    output, gradients = output_and_gradients(
        functools.partial(closed_form_run, muon=muon, chunk_size=CHUNK_SIZE), inputs
    )
    for reference in (oracle_run, derived_run):
        expected_output, expected_gradients = output_and_gradients(functools.partial(reference, muon=muon), inputs)
        assert (output - expected_output).abs().max() < TOLERANCE
        for gradient, expected in zip(gradients, expected_gradients, strict=True):
            assert expected.abs().max() > 0
            assert (gradient - expected).abs().max() < TOLERANCE * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("gradient", [fast.fast_weight_gradient, naive.fast_weight_gradient], ids=["closed", "oracle"])
@pytest.mark.parametrize("shared_weights", [False, True])
def test_gradient_of_the_memory_loss(gradient: Callable[..., FastWeights], shared_weights: bool) -> None:
    """Δ itself, before Newton-Schulz: minus the derivative of the loss, each matrix with its own learning rate."""
    inputs = Inputs(length=40, shared_weights=shared_weights)
    delta = gradient(inputs.weights, inputs.keys, inputs.values, inputs.learning_rates)
    for index in range(3):
        leaves = [weight.expand(2, -1, -1, -1).clone().requires_grad_() for weight in inputs.weights]
        reward = (inputs.learning_rates[index, ..., None] * swiglu(inputs.keys, *leaves) * inputs.values).sum()
        (expected,) = torch.autograd.grad(reward, leaves[index])
        assert (delta[index] - expected).abs().max() < TOLERANCE


def test_gradient_agrees_with_finite_differences() -> None:
    inputs = Inputs(length=5, num_heads=1, batch_size=1)
    step = 1e-6

    def reward(weights: list[torch.Tensor], index: int) -> torch.Tensor:
        return (inputs.learning_rates[index, ..., None] * swiglu(inputs.keys, *weights) * inputs.values).sum()

    delta = fast.fast_weight_gradient(inputs.weights, inputs.keys, inputs.values, inputs.learning_rates, CHUNK_SIZE)
    for index in range(3):
        for row, column in [(0, 0), (2, 5), (5, 3)]:
            nudged = []
            for sign in (1, -1):
                weights = [weight.clone() for weight in inputs.weights]
                weights[index][0, 0, row, column] += sign * step
                nudged.append(reward(weights, index))
            slope = (nudged[0] - nudged[1]) / (2 * step)
            assert abs(delta[index][0, 0, row, column] - slope) < 1e-7


@pytest.mark.parametrize("muon", [True, False])
def test_weights_shared_by_the_batch_act_as_copies(muon: bool) -> None:
    inputs = Inputs(length=30, shared_weights=True)
    updated = update(inputs, muon)
    inputs.weights = FastWeights(*(weight.expand(2, -1, -1, -1).clone() for weight in inputs.weights))
    assert largest_difference(updated, update(inputs, muon)) < 1e-12


@pytest.mark.parametrize("muon", [True, False])
@pytest.mark.parametrize("chunk_size", [1, 7, 96, 97, 1000])
def test_chunk_size_does_not_matter(chunk_size: int, muon: bool) -> None:
    inputs = Inputs(length=97)
    run = functools.partial(closed_form_run, muon=muon)
    output, gradients = output_and_gradients(functools.partial(run, chunk_size=chunk_size), inputs)
    expected_output, expected_gradients = output_and_gradients(functools.partial(run, chunk_size=97), inputs)
    assert (output - expected_output).abs().max() < 1e-11
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        assert (gradient - expected).abs().max() < TOLERANCE * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("muon", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
def test_memory_changes_the_output_at_every_length(length: int, muon: bool) -> None:
    """The trap of the language-model code: no update when the sequence fits in one chunk."""
    inputs = Inputs(length)
    before = fast.apply_fast_weights(inputs.weights, inputs.queries, CHUNK_SIZE)
    after = fast.apply_fast_weights(update(inputs, muon), inputs.queries, CHUNK_SIZE)
    assert ((after - before).abs().amax(dim=(-1, -2)) > 1e-3).all()


@pytest.mark.parametrize("muon", [True, False])
def test_learning_rate_zero_is_the_identity(muon: bool) -> None:
    """The trap of the public bidirectional layer: weights overwritten by the step, so zero rates give zero output."""
    inputs = Inputs(length=20)
    updated = update(inputs, muon, learning_rates=torch.zeros_like(inputs.learning_rates))
    assert largest_difference(updated, inputs.weights) < 1e-14
    output = fast.apply_fast_weights(updated, inputs.queries, CHUNK_SIZE)
    assert (output - swiglu(inputs.queries, *inputs.weights)).abs().max() < 1e-12
    assert output.abs().max() > 0.01


@pytest.mark.parametrize("muon", [True, False])
def test_no_frames_is_the_identity(muon: bool) -> None:
    assert largest_difference(update(Inputs(length=0), muon), Inputs(length=0).weights) < 1e-14


def test_scale_of_the_learning_rates_is_inert_under_muon() -> None:
    inputs = Inputs(length=50)
    assert largest_difference(update(inputs), update(inputs, learning_rates=10 * inputs.learning_rates)) < 1e-5
    plain = update(inputs, muon=False)
    assert largest_difference(plain, update(inputs, muon=False, learning_rates=10 * inputs.learning_rates)) > 1e-2


def test_learning_rates_weigh_frames_against_each_other_under_muon() -> None:
    inputs = Inputs(length=50)
    louder_half = inputs.learning_rates.clone()
    louder_half[..., :25] *= 10
    assert largest_difference(update(inputs), update(inputs, learning_rates=louder_half)) > 1e-2


@pytest.mark.parametrize("index", [0, 1, 2])
def test_each_learning_rate_moves_its_own_matrix_only(index: int) -> None:
    inputs = Inputs(length=50)
    learning_rates = torch.zeros_like(inputs.learning_rates)
    learning_rates[index] = inputs.learning_rates[index]
    updated = update(inputs, learning_rates=learning_rates)
    moved = [float((new - old).abs().max()) > 1e-3 for new, old in zip(updated, inputs.weights, strict=True)]
    assert moved == [position == index for position in range(3)]


@pytest.mark.parametrize("muon", [True, False])
def test_content_of_masked_frames_does_not_matter(muon: bool) -> None:
    inputs = Inputs(length=40)
    inputs.learning_rates[..., 30:] = 0
    garbage_keys, garbage_values = inputs.keys.clone(), inputs.values.clone()
    garbage_keys[..., 30:, :] = 1e3
    garbage_values[..., 30:, :] = -1e3
    updated = update(inputs, muon)
    assert largest_difference(updated, update(inputs, muon, keys=garbage_keys, values=garbage_values)) < 1e-11
    shorter = update(
        inputs, muon, keys=inputs.keys[..., :30, :], values=inputs.values[..., :30, :],
        learning_rates=inputs.learning_rates[..., :30],
    )  # fmt: skip
    assert largest_difference(updated, shorter) < 1e-11


@pytest.mark.parametrize("muon", [True, False])
def test_utterances_of_a_batch_do_not_mix(muon: bool) -> None:
    together = Inputs(length=40, batch_size=3)
    updated = update(together, muon)
    for row in range(3):
        alone = fast.update_fast_weights(
            FastWeights(*(weight[row : row + 1] for weight in together.weights)),
            together.keys[row : row + 1],
            together.values[row : row + 1],
            together.learning_rates[:, row : row + 1],
            muon=muon,
            schedule="muon",
            chunk_size=CHUNK_SIZE,
        )
        assert largest_difference(FastWeights(*(weight[row : row + 1] for weight in updated)), alone) < 1e-11


@pytest.mark.parametrize("muon", [True, False])
def test_norms_of_the_output_neurons_are_kept(muon: bool) -> None:
    inputs = Inputs(length=60)
    for new, old in zip(update(inputs, muon), inputs.weights, strict=True):
        assert (new.norm(dim=-2) / old.norm(dim=-2) - 1).abs().max() < 1e-9


def test_renormalize_gives_each_column_the_norm_of_the_reference() -> None:
    reference = torch.tensor([[3.0, 0.0], [4.0, 2.0]], dtype=torch.float64)
    updated = torch.tensor([[1.0, -5.0], [0.0, 12.0]], dtype=torch.float64)
    expected = torch.tensor([[5.0, -10 / 13], [0.0, 24 / 13]], dtype=torch.float64)
    renormalized = fast.renormalize(FastWeights(*[updated] * 3), FastWeights(*[reference] * 3))
    assert largest_difference(renormalized, FastWeights(*[expected] * 3)) < 1e-12


@pytest.mark.parametrize("chunk_size", [1, 10, 40])
def test_apply_is_the_swiglu_network(chunk_size: int) -> None:
    inputs = Inputs(length=40)
    output = fast.apply_fast_weights(inputs.weights, inputs.queries, chunk_size)
    assert output.shape == inputs.queries.shape
    assert (output - swiglu(inputs.queries, *inputs.weights)).abs().max() < 1e-12


def test_float32_agrees_with_float64() -> None:
    inputs = Inputs(length=80)
    exact = update(inputs)
    single = fast.update_fast_weights(
        FastWeights(*(weight.float() for weight in inputs.weights)),
        inputs.keys.float(), inputs.values.float(), inputs.learning_rates.float(),
        muon=True, schedule="muon", chunk_size=CHUNK_SIZE,
    )  # fmt: skip
    assert all(weight.dtype == torch.float32 for weight in single)
    assert largest_difference(FastWeights(*(weight.double() for weight in single)), exact) < 1e-4
