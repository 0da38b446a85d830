import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.options import SELF_SUPERVISED, AdaptationOptions
from lact_asr_model.adaptation.procedure import Adaptation, adapt, losses_to_lower, moving_weights
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.newton_schulz import newton_schulz

REPOSITORY = Path(__file__).parents[2]
PARAMETERS = ("fast_weights", "front_end", "both")


def plain(model: HybridAcousticModel, inputs: Mapping[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model.model(**inputs).logits


def one_of(batch: Mapping[str, Tensor], row: int) -> dict[str, Tensor]:
    """The utterance alone, without padding."""
    length = int(batch["attention_mask"][row].sum())
    return {"input_values": batch["input_values"][row : row + 1, :length]}


def same_weights(adaptation: Adaptation, other: Mapping[str, Tensor], row: int) -> bool:
    """Whether an utterance has bitwise the weights of the other; without a leading batch dimension, those of all."""
    return all(
        torch.equal(weight[row], other[name][row] if other[name].ndim == weight.ndim else other[name])
        for name, weight in adaptation.weights.items()
    )


def losses_of(model: HybridAcousticModel, inputs: Mapping[str, Tensor], options: AdaptationOptions) -> Tensor:
    """The losses before the first step, with gradients to the parameters of the model themselves."""
    moving = moving_weights(model, options)
    speech = model.listen(inputs, moving.learned.keys(), options)
    return losses_to_lower(model, speech, moving.copies(len(inputs["input_values"])), options)


@pytest.mark.parametrize("parameters", PARAMETERS)
@pytest.mark.parametrize("loss_type", SELF_SUPERVISED)
def test_a_batch_adapts_as_its_utterances_do_one_by_one(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], loss_type: str, parameters: str
) -> None:
    options = AdaptationOptions(
        loss_type=loss_type, steps=2, learning_rate=0.02, front_end_step=0.02, parameters=parameters
    )
    tiny.model.double()  # in single precision, rounding decides about symbols of almost the same probability
    batch = {"input_values": batch["input_values"].double(), "attention_mask": batch["attention_mask"]}
    before = plain(tiny, batch)
    together = adapt(tiny, batch, options)
    for row in range(3):
        alone = adapt(tiny, one_of(batch, row), options)
        frames = alone.logits.shape[1]
        assert together.frame_mask[row].sum() == frames
        assert (alone.logits[0] - before[row, :frames]).abs().max() > 1e-2
        torch.testing.assert_close(together.logits[row, :frames], alone.logits[0], rtol=0, atol=1e-8)
        torch.testing.assert_close(together.losses[:, row], alone.losses[:, 0], rtol=1e-6, atol=1e-7)
        assert torch.equal(together.logits[row, :frames].argmax(-1), alone.logits[0].argmax(-1))
        assert (together.logits[row, frames:].argmax(-1) == tiny.blank_id).all()


def test_what_pads_a_batch_has_no_part_in_it(tiny: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    options = AdaptationOptions(loss_type="entropy_mcc", steps=2, parameters="both", learning_rate=0.05)
    adaptation = adapt(tiny, batch, options)
    noisy = batch["input_values"] + 100 * (1 - batch["attention_mask"])
    with_noise = adapt(tiny, {**batch, "input_values": noisy}, options)
    for name, weight in adaptation.weights.items():
        torch.testing.assert_close(with_noise.weights[name], weight, rtol=0, atol=1e-5)
    torch.testing.assert_close(with_noise.logits, adaptation.logits, rtol=0, atol=1e-4)


def test_one_step_is_a_muon_step_down_the_gradient_of_the_models_own_weights(
    tiny: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    first = one_of(batch, 0)
    options = AdaptationOptions(loss_type="entropy_mcc", learning_rate=0.05)
    adaptation = adapt(tiny, first, options)

    reference = HybridAcousticModel(copy.deepcopy(tiny.model), tiny.processor)
    loss = losses_of(reference, first, options).sum()
    loss.backward()
    torch.testing.assert_close(adaptation.losses[0], loss.detach()[None])
    names = {f"layers.{block}.memory.w{index}" for block in range(2) for index in range(3)}
    assert set(adaptation.weights) == names
    for name, weight in adaptation.weights.items():
        old = reference.model.get_parameter(name)
        expected = old - 0.05 * newton_schulz(old.grad)
        expected = expected / expected.norm(dim=-2, keepdim=True) * old.norm(dim=-2, keepdim=True)
        torch.testing.assert_close(weight[0], expected, rtol=0, atol=1e-4)
        assert (weight[0] - old).abs().max() > 1e-2


def test_a_front_end_step_moves_each_filter_matrix_by_a_share_of_its_norm_down_its_gradient(
    tiny: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    first = one_of(batch, 0)
    options = AdaptationOptions(loss_type="entropy", parameters="front_end", front_end_step=0.05)
    adaptation = adapt(tiny, first, options)

    reference = HybridAcousticModel(copy.deepcopy(tiny.model), tiny.processor)
    losses_of(reference, first, options).sum().backward()
    filters = {name: each for name, each in reference.model.named_parameters() if each.ndim == 3 and "conv" in name}
    assert adaptation.weights.keys() == filters.keys()
    for name, parameter in filters.items():
        step = (adaptation.weights[name][0] - parameter.detach()).flatten(1)
        assert step.norm().item() == pytest.approx(0.05 * parameter.norm().item(), rel=1e-4)
        direction = newton_schulz(parameter.grad.flatten(1))
        torch.testing.assert_close(step / step.norm(), -direction / direction.norm(), rtol=0, atol=1e-3)


def test_a_log_mel_front_end_cannot_be_adapted(tiny: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    config = HybridASRConfig.from_file(REPOSITORY / "configs" / "tiny_asr_config.json")
    config.use_wav2vec2_encoder = False
    model = HybridAcousticModel(HybridASRForCTC(config).eval(), tiny.processor)
    with pytest.raises(UserError, match="'both'; this model has no front_end to move, it has fast_weights, norms, "):
        adapt(model, batch, AdaptationOptions(parameters="both"))
    options = AdaptationOptions(parameters="fast_weights", loss_type="entropy", learning_rate=0.05)
    assert adapt(model, batch, options).is_adapted.all()


def test_a_group_that_a_model_lacks_is_named(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = tiny.weight_groups()
    del groups["norms"]
    monkeypatch.setattr(tiny, "weight_groups", lambda: groups)
    with pytest.raises(
        UserError, match="is 'front_end\\+norms'; this model has no norms to move, it has fast_weights, f"
    ):
        adapt(tiny, batch, AdaptationOptions(parameters="front_end+norms"))


@pytest.mark.parametrize("parameters", PARAMETERS)
@pytest.mark.parametrize("loss_type", SELF_SUPERVISED)
def test_a_small_step_lowers_every_utterances_loss(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], loss_type: str, parameters: str
) -> None:
    options = AdaptationOptions(loss_type=loss_type, learning_rate=1e-4, front_end_step=1e-4, parameters=parameters)
    adaptation = adapt(tiny, batch, options)
    with torch.no_grad():
        speech = tiny.listen(batch, adaptation.weights.keys(), options)
        after = losses_to_lower(tiny, speech, adaptation.weights, options)
    assert (after < adaptation.losses[0]).all()


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_the_answer_is_that_of_the_model_with_the_adapted_weights(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], parameters: str
) -> None:
    before = plain(tiny, batch)
    options = AdaptationOptions(learning_rate=0.1, front_end_step=0.1, parameters=parameters)
    adaptation = adapt(tiny, batch, options)
    assert adaptation.is_adapted.all()
    with torch.no_grad():
        assert torch.equal(tiny.model(**batch, weights=adaptation.weights).logits, adaptation.logits)
    assert (adaptation.logits - before).abs().max() > 0.1
    assert torch.equal(plain(tiny, batch), before)
    assert not adaptation.logits.requires_grad
    assert not any(weight.requires_grad for weight in adaptation.weights.values())


@pytest.mark.parametrize("parameters", ["norms", "attention", "norms+fast_weights", "suta"])
def test_any_group_moves_one_utterance_at_a_time(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], parameters: str
) -> None:
    one = one_of(batch, 0)
    options = AdaptationOptions(loss_type="entropy", steps=2, parameters=parameters, front_end_step=0.05)
    before = plain(tiny, one)
    adaptation = adapt(tiny, one, options)
    with_own = copy.deepcopy(tiny.model)
    with torch.no_grad():
        for name, weight in adaptation.weights.items():
            assert (weight != with_own.get_parameter(name)).any(), name
            with_own.get_parameter(name).copy_(weight[0])
        torch.testing.assert_close(with_own(**one).logits, adaptation.logits, rtol=0, atol=1e-5)
    assert (adaptation.logits - before).abs().max() > 1e-2
    assert torch.equal(plain(tiny, one), before)
    with pytest.raises(UserError, match="one utterance at a time; use a batch size of 1"):
        adapt(tiny, batch, options)


def test_norms_of_a_head_that_is_not_asked_stay(with_exit: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    adaptation = adapt(with_exit, one_of(batch, 0), AdaptationOptions(loss_type="entropy", parameters="norms"))
    for name, weight in adaptation.weights.items():
        has_moved = not torch.equal(weight[0], with_exit.model.get_parameter(name))
        assert has_moved is not name.startswith("intermediate_heads."), name


def test_masked_prediction_moves_no_norms(tiny: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="loss_type is 'masked_prediction'; .* use 'entropy_mcc'"):
        adapt(tiny, one_of(batch, 0), AdaptationOptions(loss_type="masked_prediction", parameters="norms"))


def test_a_model_that_is_trained_gets_no_gradients_and_keeps_its_modes(
    tiny: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    tiny.model.lm_head.requires_grad_(False)
    tiny.model.layers[1].train()
    state = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    are_learned = [parameter.requires_grad for parameter in tiny.model.parameters()]
    modes = [module.training for module in tiny.model.modules()]
    for parameters in ("both", "norms"):
        inputs = batch if parameters == "both" else one_of(batch, 0)
        options = AdaptationOptions(loss_type="entropy", learning_rate=0.5, parameters=parameters)
        assert adapt(tiny, inputs, options).is_adapted.all()
    assert all(torch.equal(tensor, state[name]) for name, tensor in tiny.model.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny.model.parameters())
    assert [parameter.requires_grad for parameter in tiny.model.parameters()] == are_learned
    assert [module.training for module in tiny.model.modules()] == modes


@pytest.mark.parametrize("loss_type", SELF_SUPERVISED)
def test_the_steps_can_listen_to_the_beginning_only(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], loss_type: str
) -> None:
    """0.6 s are 9600 samples: longer than the second utterance and shorter than the others."""
    for parameters in ("front_end", "fast_weights"):
        options = AdaptationOptions(
            loss_type=loss_type, steps=2, parameters=parameters, max_seconds=0.6, learning_rate=0.05
        )
        adaptation = adapt(tiny, batch, options)
        cut = {name: values[:, :9600] for name, values in batch.items()}
        beginning = adapt(tiny, cut, replace(options, max_seconds=0.0))
        assert torch.equal(adaptation.losses, beginning.losses)
        for name, weight in beginning.weights.items():
            assert torch.equal(adaptation.weights[name], weight)
        assert adaptation.is_adapted.all()
        with torch.no_grad():
            assert torch.equal(adaptation.logits, tiny.model(**batch, weights=beginning.weights).logits)
        assert adaptation.logits.shape[1] > beginning.logits.shape[1]


def test_a_beginning_that_is_longer_than_everything_is_everything(
    tiny: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    options = AdaptationOptions(loss_type="entropy", parameters="both")
    everything, longer = (adapt(tiny, batch, replace(options, max_seconds=seconds)) for seconds in (0.0, 60.0))
    assert torch.equal(longer.logits, everything.logits)


@pytest.mark.parametrize("group", ["fast_weights", "norms"])
def test_a_beginning_without_a_frame_teaches_nothing(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], group: str
) -> None:
    one = one_of(batch, 0)
    options = AdaptationOptions(loss_type="entropy", parameters=group, max_seconds=0.01, unadapted_share=0.5)
    adaptation = adapt(tiny, one, options)
    assert not adaptation.is_adapted.any()
    torch.testing.assert_close(adaptation.logits, plain(tiny, one), rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("parameters", ["both", "norms"])
def test_callers_may_have_switched_gradients_off(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], mode: Any, parameters: str
) -> None:
    options = AdaptationOptions(loss_type="entropy", steps=2, parameters=parameters)
    inputs = batch if parameters == "both" else one_of(batch, 0)
    expected = adapt(tiny, inputs, options)
    with mode():
        own_inputs = {name: values.clone() for name, values in inputs.items()}
        adaptation = adapt(tiny, own_inputs, options)
    assert torch.equal(adaptation.logits, expected.logits)
    assert adaptation.is_adapted.all()


@pytest.mark.parametrize("changes", [{"steps": 0}, {"mask_prob": 0.0}, {"learning_rate": 0.0}], ids=str)
def test_nothing_to_do_changes_nothing(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], changes: dict[str, Any]
) -> None:
    options = AdaptationOptions(**changes)
    adaptation = adapt(tiny, batch, options)
    assert torch.equal(adaptation.logits, plain(tiny, batch))
    assert adaptation.losses.shape == (options.steps, 3)
    assert not adaptation.is_adapted.any()


def test_an_all_blank_utterance_keeps_its_weights_under_entropy(
    tiny: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    with torch.no_grad():
        tiny.model.lm_head.bias[0] += 100
    adaptation = adapt(tiny, batch, AdaptationOptions(loss_type="entropy", steps=2))
    learned = dict(tiny.model.named_parameters())
    assert all(same_weights(adaptation, learned, row) for row in range(3))
    assert adaptation.losses.tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("parameters", PARAMETERS)
@pytest.mark.parametrize("loss_type", SELF_SUPERVISED)
def test_utterances_without_frames_keep_their_weights_beside_others(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], loss_type: str, parameters: str
) -> None:
    batch["attention_mask"][1, 100:] = 0
    adaptation = adapt(tiny, batch, AdaptationOptions(loss_type=loss_type, parameters=parameters))
    assert adaptation.logits.isfinite().all()
    assert adaptation.is_adapted.tolist() == [True, False, True]
    assert adaptation.losses[0, 1] == 0


@pytest.mark.parametrize("num_samples", [1, 160, 399])
@pytest.mark.parametrize("parameters", PARAMETERS)
def test_a_batch_too_short_for_any_frame_adapts_to_nothing(
    tiny: HybridAcousticModel, num_samples: int, parameters: str
) -> None:
    options = AdaptationOptions(parameters=parameters)
    adaptation = adapt(tiny, {"input_values": torch.randn(2, num_samples)}, options)
    assert adaptation.logits.shape == (2, 0, tiny.model.config.vocab_size)
    assert not adaptation.is_adapted.any()


@pytest.mark.parametrize("loss_type", SELF_SUPERVISED)
def test_silence_stays_finite(tiny: HybridAcousticModel, loss_type: str) -> None:
    options = AdaptationOptions(loss_type=loss_type, steps=2, parameters="both")
    adaptation = adapt(tiny, {"input_values": torch.zeros(2, 8000)}, options)
    assert adaptation.logits.isfinite().all()
    assert adaptation.losses.isfinite().all()


@pytest.mark.parametrize("loss_type", SELF_SUPERVISED)
def test_a_gradient_that_is_not_finite_moves_nothing_and_leaves_the_others_alone(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], loss_type: str
) -> None:
    broken = batch["input_values"].clone()
    broken[1, 3000] = torch.nan
    options = AdaptationOptions(loss_type=loss_type, parameters="both")
    adaptation = adapt(tiny, {**batch, "input_values": broken}, options)
    expected = adapt(tiny, batch, options)
    assert same_weights(adaptation, dict(tiny.model.named_parameters()), 1)
    for row in (0, 2):
        assert same_weights(adaptation, expected.weights, row)
        assert adaptation.is_adapted[row]


def test_the_masks_depend_on_the_seed_and_the_length_only(tiny: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    options, other_seed = AdaptationOptions(seed=0), AdaptationOptions(seed=1)
    moving = moving_weights(tiny, options)

    def losses(inputs: Mapping[str, Tensor], options: AdaptationOptions) -> Tensor:
        with torch.no_grad():
            speech = tiny.listen(inputs, moving.learned.keys(), options)
            copies = moving.copies(len(inputs["input_values"]))
            return losses_to_lower(tiny, speech, copies, options)

    first = losses(batch, options)
    assert torch.equal(first, losses(batch, options))
    assert not torch.equal(first, losses(batch, other_seed))
    reordered = {name: values[[2, 0, 1]] for name, values in batch.items()}
    torch.testing.assert_close(losses(reordered, options), first[[2, 0, 1]], rtol=1e-5, atol=1e-6)


def test_the_models_own_options_are_the_default(tiny_model: HybridASRForCTC, processor: Any) -> None:
    tiny_model.config.ttt_steps = 3
    options = HybridAcousticModel(tiny_model, processor).default_options
    assert options == AdaptationOptions(steps=3)


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_an_adaptation_can_start_from_another(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], parameters: str
) -> None:
    options = AdaptationOptions(loss_type="entropy", parameters=parameters, learning_rate=0.05, front_end_step=0.05)
    first = adapt(tiny, batch, options)
    second = adapt(tiny, batch, options, first.weights)
    at_once = adapt(tiny, batch, replace(options, steps=2))
    assert torch.equal(second.logits, at_once.logits)
    assert torch.equal(second.losses[0], at_once.losses[1])
    assert second.start is first.weights
