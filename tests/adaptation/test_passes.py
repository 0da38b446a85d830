"""What a step costs: only what the moving weights touch is computed again, and the unadapted answer is for nothing."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.hugging_face import HuggingFaceAcousticModel
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.procedure import adapt

STEPS = 2
PASSES = STEPS + 1  # each step hears once, and the answer is one pass more
SHARES = pytest.mark.parametrize("share", [0.0, 0.5])


@pytest.fixture
def one(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"input_values": batch["input_values"][:1]}


def counts(model: AcousticModel, inputs: dict[str, Tensor], modules: nn.ModuleList, **changes: Any) -> list[int]:
    """How often adaptation runs each of the layers, which are of the model itself."""
    calls: Counter[int] = Counter()
    handles = [
        layer.register_forward_hook(lambda *_, index=index: calls.update([index]))
        for index, layer in enumerate(modules)
    ]
    options = AdaptationOptions(**{"loss_type": "entropy", "steps": STEPS} | changes)
    adaptation = adapt(model, inputs, options)
    for handle in handles:
        handle.remove()
    assert adaptation.is_adapted.all() == (options.skip_entropy == 0)
    return [calls[index] for index in range(len(modules))]


@SHARES
@pytest.mark.parametrize("first", [0, 3, 6])
def test_conv_layers_before_the_first_that_moves_run_once(
    with_exit: HybridAcousticModel, batch: dict[str, Tensor], first: int, share: float
) -> None:
    conv_layers = with_exit.model.encoder.conv_layers
    changes = {"parameters": "front_end", "conv_layers": str(first), "unadapted_share": share}
    assert counts(with_exit, batch, conv_layers, **changes) == [1] * first + [PASSES] * (7 - first)
    assert counts(with_exit, batch, with_exit.model.layers, **changes) == [PASSES] * 4


@SHARES
@pytest.mark.parametrize("first", [0, 2, 3])
def test_blocks_before_the_first_that_moves_run_once_and_the_encoder_too(
    with_exit: HybridAcousticModel, batch: dict[str, Tensor], first: int, share: float
) -> None:
    changes = {"parameters": "fast_weights", "layers": str(first), "unadapted_share": share}
    assert counts(with_exit, batch, with_exit.model.layers, **changes) == [1] * first + [PASSES] * (4 - first)
    assert counts(with_exit, batch, with_exit.model.encoder.conv_layers, **changes) == [1] * 7


def test_where_both_move_everything_behind_the_first_conv_layer_that_moves_runs_again(
    with_exit: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    changes = {"parameters": "both", "conv_layers": "5", "layers": "3"}
    assert counts(with_exit, batch, with_exit.model.encoder.conv_layers, **changes) == [1] * 5 + [PASSES] * 2
    assert counts(with_exit, batch, with_exit.model.layers, **changes) == [PASSES] * 4


def test_masked_prediction_hears_the_speech_apart_from_the_answers(
    with_exit: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    changes = {"loss_type": "masked_prediction", "parameters": "fast_weights"}
    layers = with_exit.model.layers
    assert counts(with_exit, batch, layers, **changes) == [PASSES] * 4
    assert counts(with_exit, batch, layers, **changes, unadapted_share=0.5) == [PASSES + 1] * 4


@pytest.mark.parametrize(("loss_type", "passes"), [("entropy", 1), ("entropy_mcc", 1), ("masked_prediction", 2)])
def test_what_is_recognised_with_certainty_costs_no_second_pass(
    with_exit: HybridAcousticModel, batch: dict[str, Tensor], loss_type: str, passes: int
) -> None:
    changes = {"loss_type": loss_type, "skip_entropy": 100.0, "unadapted_share": 0.5}
    assert counts(with_exit, batch, with_exit.model.layers, **changes) == [passes] * 4


def test_what_a_stream_learns_after_it_has_answered_costs_no_pass_behind_the_steps(
    with_exit: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    assert counts(with_exit, batch, with_exit.model.layers, parameters="front_end", unadapted_share=1.0) == [STEPS] * 4


def test_a_beginning_is_encoded_beside_the_whole(with_exit: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    changes = {"parameters": "fast_weights", "layers": "2", "max_seconds": 0.5}
    assert counts(with_exit, batch, with_exit.model.encoder.conv_layers, **changes) == [2] * 7
    assert counts(with_exit, batch, with_exit.model.layers, **changes) == [2, 2, PASSES, PASSES]


def test_blocks_behind_an_exit_run_for_the_answers_only(
    with_exit: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    changes = {"parameters": "front_end", "exit_layer": 2}
    layers = with_exit.model.layers
    assert counts(with_exit, batch, layers, **changes) == [PASSES, PASSES, 1, 1]
    assert counts(with_exit, batch, layers, **changes, unadapted_share=0.5) == [PASSES, PASSES, 2, 2]
    changes = {"parameters": "fast_weights", "layers": "1", "exit_layer": 3}
    assert counts(with_exit, batch, layers, **changes, unadapted_share=0.5) == [1, PASSES, PASSES, 2]


@SHARES
@pytest.mark.parametrize(("parameters", "conv_layers", "first"), [("front_end", "3", 3), ("norms", "all", 7)])
def test_a_foreign_models_conv_layers_before_the_first_that_moves_run_once(
    foreign: HuggingFaceAcousticModel,
    one: dict[str, Tensor],
    parameters: str,
    conv_layers: str,
    first: int,
    share: float,
) -> None:
    base = foreign.model.wav2vec2
    changes = {"parameters": parameters, "conv_layers": conv_layers, "unadapted_share": share}
    conv = counts(foreign, one, base.feature_extractor.conv_layers, **changes)
    assert conv == [1] * first + [PASSES] * (7 - first)
    assert counts(foreign, one, base.encoder.layers, **changes) == [PASSES] * 2


def test_what_is_computed_once_changes_nothing(foreign: HuggingFaceAcousticModel, one: dict[str, Tensor]) -> None:
    """The norms of the blocks as a group of its own, with and without the conv layers in front of them frozen."""
    options = AdaptationOptions(loss_type="entropy", steps=2, parameters="norms", front_end_step=0.05)
    expected = adapt(foreign, one, options)
    foreign._conv_layers = lambda: []  # type: ignore[method-assign]
    again = adapt(foreign, one, options)
    torch.testing.assert_close(again.logits, expected.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(again.losses, expected.losses, rtol=0, atol=1e-6)
