"""What moves in adaptation, and how far: the chosen layers, by the model's learned factors."""

import math

import pytest
import torch
from torch import Tensor

from lact_asr_model.errors import UserError
from lact_asr_model.inference.ttt_options import TTTOptions
from lact_asr_model.inference.ttt_procedure import Adaptation, adapt, self_supervised_losses
from lact_asr_model.inference.ttt_weights import own_weights
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.fast_weights import FastWeights, muon_step

STEP = 0.05
BOTH = {"loss_type": "entropy", "parameters": "both", "learning_rate": STEP, "front_end_step": STEP}


def moved_blocks(adaptation: Adaptation) -> list[int]:
    """The blocks of which every matrix of every utterance moved; the others must be the learned ones."""
    blocks = []
    for index, (layer, initial) in enumerate(
        zip(adaptation.fast_weights, adaptation.model.initial_fast_weights(), strict=True)
    ):
        changes = [(now - before).abs().amax(dim=(1, 2, 3)) for now, before in zip(layer, initial, strict=True)]
        if all((change > 1e-4).all() for change in changes):
            blocks.append(index)
        else:
            assert not any(change.any() for change in changes)
    return blocks


def moved_filters(adaptation: Adaptation) -> list[int]:
    """The conv layers, by their numbers, whose filters moved for every utterance; the others may not be there."""
    names = list(adaptation.model.initial_front_end())
    assert [name.split(".")[1] for name in names] == [str(index) for index in range(7)]
    for name, filters in adaptation.front_end.items():
        assert ((filters - adaptation.model.initial_front_end()[name]).abs().amax(dim=(1, 2, 3)) > 1e-4).all()
    return [names.index(name) for name in adaptation.front_end]


@pytest.mark.parametrize(
    ("layers", "conv_layers", "blocks", "filters"),
    [
        ("all", "all", [0, 1], [0, 1, 2, 3, 4, 5, 6]),
        ("1", "0", [1], [0]),
        ("0", "6,2-3", [0], [2, 3, 6]),
    ],
)
def test_only_the_chosen_layers_move(
    tiny_model: HybridASRForCTC,
    batch: tuple[Tensor, Tensor],
    layers: str,
    conv_layers: str,
    blocks: list[int],
    filters: list[int],
) -> None:
    adaptation = adapt(tiny_model, *batch, TTTOptions(**BOTH, steps=2, layers=layers, conv_layers=conv_layers))
    assert moved_blocks(adaptation) == blocks
    assert moved_filters(adaptation) == filters


def test_a_chosen_layer_takes_the_step_it_takes_among_all(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor]
) -> None:
    every = adapt(tiny_model, *batch, TTTOptions(**BOTH))
    chosen = adapt(tiny_model, *batch, TTTOptions(**BOTH, layers="1", conv_layers="4"))
    torch.testing.assert_close(chosen.fast_weights[1], every.fast_weights[1], rtol=0, atol=1e-5)
    ((name, filters),) = chosen.front_end.items()
    torch.testing.assert_close(filters, every.front_end[name], rtol=0, atol=1e-5)


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
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], name: str, layers: str, last: int
) -> None:
    with pytest.raises(UserError) as caught:
        adapt(tiny_model, *batch, TTTOptions(parameters="both", **{name: layers}))
    assert str(caught.value) == f"TTT option {name} is {layers!r}; it must be layers from 0 to {last}"


def test_a_learned_factor_of_2_doubles_the_step_of_its_block_before_renormalisation(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor]
) -> None:
    with torch.no_grad():
        tiny_model.fast_weight_log_step_scales[1] = math.log(2)
    options = TTTOptions(loss_type="entropy", learning_rate=STEP)
    first = [tensor[:1] for tensor in batch]
    adaptation = adapt(tiny_model, *first, options)
    self_supervised_losses(tiny_model, *tiny_model.encode(*first), options).sum().backward()
    for factor, block, fast_weights in zip((1, 2), tiny_model.layers, adaptation.fast_weights, strict=True):
        memory = block.memory
        initial = FastWeights(*(matrix.detach()[None] for matrix in (memory.w0, memory.w1, memory.w2)))
        gradients = FastWeights(*(matrix.grad[None] for matrix in (memory.w0, memory.w1, memory.w2)))
        wrong = muon_step(initial, gradients, STEP * (3 - factor), "muon")
        for matrix, expected, other in zip(
            fast_weights, muon_step(initial, gradients, STEP * factor, "muon"), wrong, strict=True
        ):
            torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-4)
            assert (matrix - other).abs().max() > 1e-3


def test_a_learned_factor_multiplies_the_share_of_its_conv_layer(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor]
) -> None:
    factors = [1, 2, 1, 0.5, 1, 3, 1]
    with torch.no_grad():
        tiny_model.front_end_log_step_scales.copy_(torch.tensor(factors).log())
    adaptation = adapt(tiny_model, *batch, TTTOptions(**BOTH))
    for (name, before), factor in zip(tiny_model.initial_front_end().items(), factors, strict=True):
        shares = (adaptation.front_end[name] - before).flatten(1).norm(dim=1) / before.norm()
        assert shares.tolist() == pytest.approx([STEP * factor] * 3, rel=1e-3)


def test_a_factor_of_almost_nothing_freezes_its_layer(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor]
) -> None:
    with torch.no_grad():
        tiny_model.fast_weight_log_step_scales[0] = math.log(1e-30)
        tiny_model.front_end_log_step_scales[5] = math.log(1e-30)
    adaptation = adapt(tiny_model, *batch, TTTOptions(**BOTH, steps=2))
    for now, before in zip(adaptation.fast_weights[0], tiny_model.initial_fast_weights()[0], strict=True):
        torch.testing.assert_close(now, before.expand_as(now), rtol=0, atol=1e-6)
    for index, (name, before) in enumerate(tiny_model.initial_front_end().items()):
        change = (adaptation.front_end[name] - before).abs().max()
        assert change < 1e-6 if index == 5 else change > 1e-4
    assert (adaptation.fast_weights[1].w0 - tiny_model.initial_fast_weights()[1].w0).abs().max() > 1e-3


def test_structure_survives_a_round_trip_and_rows_are_chosen_by_the_mask(tiny_model: HybridASRForCTC) -> None:
    weights = own_weights(tiny_model, 3, TTTOptions(parameters="both", layers="1", conv_layers="2,0"))
    assert list(weights.fast_weights) == [1]
    assert [tensor.shape[0] for tensor in weights.tensors] == [3] * (3 + 2)
    ones, twos = (weights.map(lambda tensor, value=value: torch.full_like(tensor, value)) for value in (1.0, 2.0))
    mixed = ones.where(torch.tensor([True, False, True]), twos)
    assert mixed.front_end.keys() == weights.front_end.keys()
    for tensor, original in zip(mixed.tensors, weights.tensors, strict=True):
        assert tensor.shape == original.shape
        assert [row.unique().tolist() for row in tensor] == [[1], [2], [1]]
    refilled = weights.filled_with(weights.tensors)
    assert all(a is b for a, b in zip(refilled.tensors, weights.tensors, strict=True))
