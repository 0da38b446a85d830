"""What moves in adaptation, and how far: Muon's step, the chosen layers, the model's learned factors."""

import math

import pytest
import torch
from torch import Tensor

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.procedure import Adaptation, adapt, losses_to_lower, moving_weights
from lact_asr_model.adaptation.steps import Size, take_step
from lact_asr_model.errors import UserError
from lact_asr_model.ops.newton_schulz import newton_schulz

STEP = 0.05
BOTH = {"loss_type": "entropy", "parameters": "both", "learning_rate": STEP, "front_end_step": STEP}
SHAPES = {"matrices": (2, 6, 9), "square": (5, 5), "filters": (4, 3, 2), "vector": (7,)}


def random_weights(num_utterances: int, seed: int, shapes: dict[str, tuple[int, ...]] = SHAPES) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(num_utterances, *shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def stepped(
    weights: dict[str, Tensor],
    gradients: dict[str, Tensor],
    size: Size = STEP,
    learns: tuple[bool, ...] = (True, True),
    schedule: str = "muon",
) -> dict[str, Tensor]:
    """`matrices` and `square` keep their column norms, `filters` and `vector` move by a share."""
    return take_step(
        weights,
        gradients,
        dict.fromkeys(weights, size),
        torch.tensor(learns),
        keeps_column_norms={name: name in ("matrices", "square") for name in weights},
        schedule=schedule,
    )


class TestOneStep:
    @pytest.mark.parametrize("schedule", ["muon", "polar_express"])
    def test_a_matrix_turns_down_its_gradient_and_keeps_the_norms_of_its_columns(self, schedule: str) -> None:
        weights, gradients = random_weights(2, seed=1), random_weights(2, seed=2)
        after = stepped(weights, {name: 1e-3 * gradient for name, gradient in gradients.items()}, schedule=schedule)
        for name in ("matrices", "square"):
            old, gradient = weights[name], gradients[name]
            expected = old - STEP * newton_schulz(gradient, schedule)
            expected = expected / expected.norm(dim=-2, keepdim=True) * old.norm(dim=-2, keepdim=True)
            assert (after[name] - expected).abs().max() < 1e-6
            assert (((after[name] - old) * gradient).flatten(1).sum(dim=1) < 0).all()

    def test_filters_move_by_a_share_of_their_norm(self) -> None:
        weights, gradients = random_weights(2, seed=1), random_weights(2, seed=2)
        change = stepped(weights, gradients)["filters"] - weights["filters"]
        for step, old, gradient in zip(change, weights["filters"], gradients["filters"], strict=True):
            assert step.norm().item() == pytest.approx(STEP * old.norm().item())
            direction = newton_schulz(gradient.flatten(1))
            torch.testing.assert_close(step.flatten(1) / step.norm(), -direction / direction.norm())

    def test_a_vector_moves_along_its_gradient_by_a_tenth_of_the_step_an_element(self) -> None:
        weights, gradients = random_weights(2, seed=1), random_weights(2, seed=2)
        change = stepped(weights, gradients)["vector"] - weights["vector"]
        torch.testing.assert_close(change.square().mean(dim=1).sqrt(), torch.full((2,), STEP / 10, dtype=torch.float64))
        cosine = torch.cosine_similarity(change, gradients["vector"], dim=1)
        torch.testing.assert_close(cosine, torch.full((2,), -1.0, dtype=torch.float64))

    def test_the_scale_of_a_gradient_is_of_no_account(self) -> None:
        weights, gradients = random_weights(2, seed=1), random_weights(2, seed=2)
        once, thousandfold = (
            stepped(weights, {name: scale * gradient for name, gradient in gradients.items()}) for scale in (1, 1000)
        )
        for name in SHAPES:
            torch.testing.assert_close(thousandfold[name], once[name], rtol=1e-5, atol=1e-6)

    def test_a_zero_gradient_leaves_its_weight_alone_and_the_others_move(self) -> None:
        weights, gradients = random_weights(2, seed=1), random_weights(2, seed=2)
        for name in SHAPES:
            after = stepped(weights, {**gradients, name: torch.zeros_like(gradients[name])})
            assert torch.equal(after[name], weights[name])
            assert all((after[other] != weights[other]).any() for other in SHAPES if other != name)

    @pytest.mark.parametrize("name", SHAPES)
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_an_utterance_with_a_gradient_that_is_not_finite_stays_where_it_is(self, name: str, value: float) -> None:
        weights, gradients = random_weights(2, seed=1), random_weights(2, seed=2)
        expected = stepped(weights, gradients)
        gradients[name].view(2, -1)[1, 3] = value
        after = stepped(weights, gradients)
        for each in SHAPES:
            assert torch.equal(after[each][1], weights[each][1])
            assert torch.equal(after[each][0], expected[each][0])

    def test_only_those_who_learn_move(self) -> None:
        weights, gradients = random_weights(2, seed=1), random_weights(2, seed=2)
        everyone, second = stepped(weights, gradients), stepped(weights, gradients, learns=(False, True))
        for name in SHAPES:
            assert torch.equal(second[name][0], weights[name][0])
            assert torch.equal(second[name][1], everyone[name][1])

    def test_every_utterance_moves_as_it_would_alone(self) -> None:
        weights, gradients = random_weights(3, seed=1), random_weights(3, seed=2)
        together = stepped(weights, gradients, learns=(True,) * 3)
        for row in range(3):
            one = [{name: each[row : row + 1] for name, each in values.items()} for values in (weights, gradients)]
            for name, weight in stepped(*one, learns=(True,)).items():
                torch.testing.assert_close(together[name][row], weight[0], rtol=0, atol=1e-12)

    def test_the_size_of_a_step_can_be_learned(self) -> None:
        weights, gradients = random_weights(1, seed=1), random_weights(1, seed=2)
        target = random_weights(1, seed=3)

        def distance(size: Size) -> Tensor:
            after = stepped(weights, gradients, size, learns=(True,))
            return torch.stack([(after[name] * target[name]).sum() for name in SHAPES]).sum()

        size = torch.tensor(STEP, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(distance(size), size)
        expected = (distance(STEP + 1e-6) - distance(STEP - 1e-6)) / 2e-6
        assert slope.item() == pytest.approx(float(expected), rel=1e-5)


def moved_blocks(model: HybridAcousticModel, adaptation: Adaptation) -> list[int]:
    """The blocks of which every matrix of every utterance moved; the others may not be there."""
    blocks = []
    for index, layer in enumerate(model.model.fast_weights()):
        names = layer.keys() & adaptation.weights.keys()
        assert len(names) in (0, 3)
        for name in names:
            assert ((adaptation.weights[name] - layer[name]).abs().amax(dim=(1, 2, 3)) > 1e-4).all()
        blocks += [index] if names else []
    return blocks


def moved_filters(model: HybridAcousticModel, adaptation: Adaptation) -> list[int]:
    """The conv layers whose filters moved for every utterance; the others may not be there."""
    moved = []
    for index, layer in enumerate(model.model.front_end_weights()):
        ((name, learned),) = layer.items()
        assert name.split(".")[2] == str(index)
        if name in adaptation.weights:
            assert ((adaptation.weights[name] - learned).abs().amax(dim=(1, 2, 3)) > 1e-4).all()
            moved.append(index)
    return moved


@pytest.mark.parametrize(
    ("layers", "conv_layers", "blocks", "filters"),
    [
        ("all", "all", [0, 1], [0, 1, 2, 3, 4, 5, 6]),
        ("1", "0", [1], [0]),
        ("0", "6,2-3", [0], [2, 3, 6]),
    ],
)
def test_only_the_chosen_layers_move(
    tiny: HybridAcousticModel,
    batch: dict[str, Tensor],
    layers: str,
    conv_layers: str,
    blocks: list[int],
    filters: list[int],
) -> None:
    options = AdaptationOptions(**BOTH, steps=2, layers=layers, conv_layers=conv_layers)
    adaptation = adapt(tiny, batch, options)
    assert moved_blocks(tiny, adaptation) == blocks
    assert moved_filters(tiny, adaptation) == filters
    assert len(adaptation.weights) == 3 * len(blocks) + len(filters)


def test_a_chosen_layer_takes_the_step_it_takes_among_all(tiny: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    every = adapt(tiny, batch, AdaptationOptions(**BOTH))
    chosen = adapt(tiny, batch, AdaptationOptions(**BOTH, layers="1", conv_layers="4"))
    for name, weight in chosen.weights.items():
        torch.testing.assert_close(weight, every.weights[name], rtol=0, atol=1e-5)


def test_attention_of_the_chosen_blocks_moves(tiny: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    one = {"input_values": batch["input_values"][:1]}
    adaptation = adapt(tiny, one, AdaptationOptions(loss_type="entropy", parameters="attention", layers="1"))
    assert adaptation.weights.keys() == {f"layers.1.attention.{name}_proj.weight" for name in ("q", "k", "v", "out")}
    for name, weight in adaptation.weights.items():
        change = (weight[0] - tiny.model.get_parameter(name)).norm() / tiny.model.get_parameter(name).norm()
        assert change.item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "layers", "last"),
    [
        ("layers", "2", 1),
        ("layers", "0-2", 1),
        ("layers", "0,16", 1),
        ("conv_layers", "7", 6),
        ("conv_layers", "1-9", 6),
    ],
)
def test_a_layer_that_the_model_lacks_is_named(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], name: str, layers: str, last: int
) -> None:
    with pytest.raises(UserError) as caught:
        adapt(tiny, batch, AdaptationOptions(parameters="both", **{name: layers}))
    assert str(caught.value) == f"TTT option {name} is {layers!r}; it must be layers from 0 to {last}"


def test_a_learned_factor_of_2_doubles_the_step_of_its_block_before_renormalisation(
    tiny: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    with torch.no_grad():
        tiny.model.fast_weight_log_step_scales[1] = math.log(2)
    options = AdaptationOptions(loss_type="entropy", learning_rate=STEP)
    first = {"input_values": batch["input_values"][:1]}
    adaptation = adapt(tiny, first, options)
    moving = moving_weights(tiny, options)
    speech = tiny.listen(first, moving.learned.keys(), options)
    losses_to_lower(tiny, speech, moving.copies(1), options).sum().backward()

    def expected(weight: Tensor, factor: float) -> Tensor:
        new = weight - STEP * factor * newton_schulz(weight.grad)
        return (new / new.norm(dim=-2, keepdim=True) * weight.norm(dim=-2, keepdim=True)).detach()

    for factor, layer in zip((1, 2), tiny.model.fast_weights(), strict=True):
        for name, weight in layer.items():
            torch.testing.assert_close(adaptation.weights[name][0], expected(weight, factor), rtol=0, atol=1e-4)
            assert (adaptation.weights[name][0] - expected(weight, 3 - factor)).abs().max() > 1e-3


def test_a_learned_factor_multiplies_the_share_of_its_conv_layer(
    tiny: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    factors = [1, 2, 1, 0.5, 1, 3, 1]
    with torch.no_grad():
        tiny.model.front_end_log_step_scales.copy_(torch.tensor(factors).log())
    adaptation = adapt(tiny, batch, AdaptationOptions(**BOTH))
    for layer, factor in zip(tiny.model.front_end_weights(), factors, strict=True):
        ((name, before),) = layer.items()
        shares = (adaptation.weights[name] - before).flatten(1).norm(dim=1) / before.norm()
        assert shares.tolist() == pytest.approx([STEP * factor] * 3, rel=1e-3)


def test_a_factor_of_almost_nothing_freezes_its_layer(tiny: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    with torch.no_grad():
        tiny.model.fast_weight_log_step_scales[0] = math.log(1e-30)
        tiny.model.front_end_log_step_scales[5] = math.log(1e-30)
    adaptation = adapt(tiny, batch, AdaptationOptions(**BOTH, steps=2))
    for name, weight in adaptation.weights.items():
        change = (weight - tiny.model.get_parameter(name)).abs().max()
        if name.startswith(("layers.0.", "encoder.conv_layers.5.")):
            assert change < 1e-6
        else:
            assert change > 1e-4
