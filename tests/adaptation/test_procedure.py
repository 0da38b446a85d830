import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lact_asr_model.configuration_hybrid_asr import TTT_LOSS_TYPES, TTT_PARAMETERS, HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.inference.ttt_options import TTTOptions
from lact_asr_model.inference.ttt_procedure import adapt, adapted, evaluation_mode, self_supervised_losses
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.fast_weights import FastWeights, muon_step
from lact_asr_model.ops.newton_schulz import newton_schulz


@pytest.fixture
def encoded(tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return tiny_model.encode(*batch)


def equal(weights_a: list[FastWeights], weights_b: list[FastWeights], row: int) -> bool:
    """Whether an utterance has bitwise the same weights in both; a leading dimension of 1 stands for all."""
    return all(
        torch.equal(a[row if len(a) > 1 else 0], b[row if len(b) > 1 else 0])
        for layer_a, layer_b in zip(weights_a, weights_b, strict=True)
        for a, b in zip(layer_a, layer_b, strict=True)
    )


@pytest.mark.parametrize("parameters", TTT_PARAMETERS)
@pytest.mark.parametrize("loss_type", TTT_LOSS_TYPES)
def test_a_batch_adapts_as_its_utterances_do_one_by_one(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], loss_type: str, parameters: str
) -> None:
    options = TTTOptions(loss_type=loss_type, steps=2, learning_rate=0.02, front_end_step=0.02, parameters=parameters)
    input_values, attention_mask = batch
    plain = tiny_model(input_values, attention_mask).logits
    with adapted(tiny_model, input_values, attention_mask, options) as together:
        pass
    for row, length in enumerate(attention_mask.sum(dim=1).tolist()):
        with adapted(tiny_model, input_values[row : row + 1, :length], None, options) as alone:
            pass
        frames = alone.logits.shape[1]
        assert (alone.logits[0] - plain[row, :frames]).abs().max() > 1e-2
        torch.testing.assert_close(together.logits[row, :frames], alone.logits[0], rtol=0, atol=1e-3)
        torch.testing.assert_close(together.losses[:, row], alone.losses[:, 0], rtol=1e-4, atol=1e-5)
        assert torch.equal(together.logits[row, :frames].argmax(-1), alone.logits[0].argmax(-1))
        assert (together.logits[row, frames:].argmax(-1) == tiny_model.config.pad_token_id).all()


def test_one_step_is_a_muon_step_down_the_gradient_of_the_models_own_weights(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor]
) -> None:
    first = [tensor[:1] for tensor in batch]
    options = TTTOptions(loss_type="entropy_mcc", learning_rate=0.05)
    adaptation = adapt(tiny_model, *first, options)

    reference = copy.deepcopy(tiny_model)
    features, frame_mask = reference.encode(*first)
    loss = self_supervised_losses(reference, features, frame_mask, options).sum()
    loss.backward()
    torch.testing.assert_close(adaptation.losses[0], loss.detach()[None])
    for layer, fast_weights in zip(reference.layers, adaptation.fast_weights, strict=True):
        memory = layer.memory
        gradients = FastWeights(memory.w0.grad[None], memory.w1.grad[None], memory.w2.grad[None])
        expected = muon_step(memory.initial_fast_weights(), gradients, 0.05, "muon")
        for matrix, expected_matrix in zip(fast_weights, expected, strict=True):
            torch.testing.assert_close(matrix, expected_matrix, rtol=0, atol=1e-4)


def test_a_front_end_step_moves_each_filter_matrix_by_a_share_of_its_norm_down_its_gradient(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor]
) -> None:
    first = [tensor[:1] for tensor in batch]
    options = TTTOptions(loss_type="entropy", parameters="front_end", front_end_step=0.05)
    adaptation = adapt(tiny_model, *first, options)
    assert all(
        torch.equal(now, before)
        for layer, initial in zip(adaptation.fast_weights, tiny_model.initial_fast_weights(), strict=True)
        for now, before in zip(layer, initial, strict=True)
    )

    reference = copy.deepcopy(tiny_model)
    self_supervised_losses(reference, *reference.encode(*first), options).sum().backward()
    filters = {name: parameter for name, parameter in reference.encoder.named_parameters() if parameter.ndim == 3}
    assert adaptation.front_end.keys() == filters.keys()
    for name, parameter in filters.items():
        step = (adaptation.front_end[name][0] - parameter.detach()).flatten(1)
        assert step.norm().item() == pytest.approx(0.05 * parameter.norm().item(), rel=1e-4)
        direction = newton_schulz(parameter.grad.flatten(1))
        torch.testing.assert_close(step / step.norm(), -direction / direction.norm(), rtol=0, atol=1e-3)


def test_a_log_mel_front_end_cannot_be_adapted(batch: tuple[Tensor, Tensor]) -> None:
    config = HybridASRConfig.from_file("configs/tiny_asr_config.json")
    config.use_wav2vec2_encoder = False
    model = HybridASRForCTC(config).eval()
    with pytest.raises(UserError, match="log-mel front end has no weights, use 'fast_weights'"):
        adapt(model, *batch, TTTOptions(parameters="both"))


@pytest.mark.parametrize("parameters", TTT_PARAMETERS)
@pytest.mark.parametrize("loss_type", TTT_LOSS_TYPES)
def test_a_small_step_lowers_every_utterances_loss(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], loss_type: str, parameters: str
) -> None:
    options = TTTOptions(loss_type=loss_type, learning_rate=1e-4, front_end_step=1e-4, parameters=parameters)
    adaptation = adapt(tiny_model, *batch, options)
    with torch.no_grad():
        encoded = adaptation.features, adaptation.frame_mask
        after = self_supervised_losses(tiny_model, *encoded, options, fast_weights=adaptation.fast_weights)
    assert (after < adaptation.losses[0]).all()


@pytest.mark.parametrize("parameters", TTT_PARAMETERS)
def test_inside_the_with_the_model_itself_is_adapted(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], parameters: str
) -> None:
    before = tiny_model(*batch).logits
    options = TTTOptions(learning_rate=0.1, front_end_step=0.1, parameters=parameters)
    with adapted(tiny_model, *batch, options) as adaptation:
        inside = tiny_model(*batch).logits
        assert torch.equal(inside, adaptation.logits)
    assert adaptation.is_adapted.all()
    assert not torch.equal(inside, before)
    assert torch.equal(tiny_model(*batch).logits, before)


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt])
def test_everything_is_restored_after_an_exception(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], exception: type[BaseException]
) -> None:
    parameters = {name: parameter.clone() for name, parameter in tiny_model.named_parameters()}
    before = tiny_model(*batch).logits
    tiny_model.train()
    tiny_model.encoder.eval()
    modes = [module.training for module in tiny_model.modules()]
    tiny_model.lm_head.requires_grad_(False)
    are_learned = [parameter.requires_grad for parameter in tiny_model.parameters()]
    with pytest.raises(exception), adapted(tiny_model, *batch, TTTOptions(learning_rate=0.5, parameters="both")):
        assert not any(module.training for module in tiny_model.modules())
        raise exception
    assert [module.training for module in tiny_model.modules()] == modes
    assert all(torch.equal(parameter, parameters[name]) for name, parameter in tiny_model.named_parameters())
    assert all(parameter.grad is None for parameter in tiny_model.parameters())
    assert [parameter.requires_grad for parameter in tiny_model.parameters()] == are_learned
    assert torch.equal(tiny_model.eval()(*batch).logits, before)


def test_a_failure_during_the_steps_restores_the_mode(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    tiny_model.train()
    monkeypatch.setattr(tiny_model, "masked_prediction_loss", fail)
    with pytest.raises(KeyboardInterrupt), adapted(tiny_model, *batch, TTTOptions()):
        pytest.fail("the adaptation should have been interrupted")
    assert all(module.training for module in tiny_model.modules())


def test_dropout_has_no_part_in_it(tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor]) -> None:
    options = TTTOptions(steps=2, parameters="both")
    in_eval = adapt(tiny_model.eval(), *batch, options)
    in_training = adapt(tiny_model.train(), *batch, options)
    assert all(equal(in_eval.fast_weights, in_training.fast_weights, row) for row in range(3))
    assert torch.equal(in_eval.logits, in_training.logits)


def test_the_encoder_runs_once(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(
        tiny_model.encoder, "forward", lambda *a, run=tiny_model.encoder.forward: calls.append(1) or run(*a)
    )
    with adapted(tiny_model, *batch, TTTOptions(steps=3)) as adaptation:
        assert adaptation.logits.isfinite().all()
    assert len(calls) == 1


@pytest.mark.parametrize("loss_type", TTT_LOSS_TYPES)
def test_the_steps_can_listen_to_the_beginning_only(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], loss_type: str
) -> None:
    """0.6 s are 9600 samples: longer than the second utterance and shorter than the others."""
    options = TTTOptions(loss_type=loss_type, steps=2, parameters="front_end", max_seconds=0.6)
    adaptation = adapt(tiny_model, *batch, options)
    beginning = adapt(tiny_model, *(tensor[:, :9600] for tensor in batch), replace(options, max_seconds=0.0))
    assert torch.equal(adaptation.losses, beginning.losses)
    for name, filters in beginning.front_end.items():
        assert torch.equal(adaptation.front_end[name], filters)
    with tiny_model.using_front_end(beginning.front_end):
        assert torch.equal(adaptation.logits, tiny_model(*batch).logits)

    fast = replace(options, parameters="fast_weights")
    features, frame_mask = tiny_model.encode(*batch)
    num_frames = tiny_model.config.num_frames(9600)
    heard = self_supervised_losses(tiny_model, features[:, :num_frames], frame_mask[:, :num_frames], fast)
    torch.testing.assert_close(adapt(tiny_model, *batch, fast).losses[0], heard.detach())


@pytest.mark.parametrize("gate", [{"skip_entropy": 100.0}, {"accept": True, "front_end_step": 0.0}])
def test_a_gate_closed_after_the_beginning_leaves_the_whole_transcript(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], gate: dict
) -> None:
    options = TTTOptions(loss_type="entropy", parameters="front_end", max_seconds=0.5, **gate)
    adaptation = adapt(tiny_model, *batch, options)
    assert not adaptation.is_adapted.any()
    torch.testing.assert_close(adaptation.logits, tiny_model(*batch).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_callers_may_have_switched_gradients_off(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], mode
) -> None:
    options = TTTOptions(loss_type="entropy", steps=2)
    with adapted(tiny_model, *batch, options) as expected:
        pass
    with mode(), adapted(tiny_model, *batch, options) as adaptation:
        assert torch.equal(tiny_model(*batch).logits, expected.logits)
    assert not adaptation.logits.requires_grad


@pytest.mark.parametrize("options", [TTTOptions(steps=0), TTTOptions(mask_prob=0.0), TTTOptions(learning_rate=0.0)])
def test_nothing_to_do_changes_nothing(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], options: TTTOptions
) -> None:
    before = tiny_model(*batch).logits
    with adapted(tiny_model, *batch, options) as adaptation:
        assert torch.equal(adaptation.logits, before)
    assert adaptation.losses.shape == (options.steps, 3)
    assert not adaptation.is_adapted.any()


def test_an_all_blank_utterance_keeps_its_weights_under_entropy(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor]
) -> None:
    with torch.no_grad():
        tiny_model.lm_head.bias[0] += 100
    adaptation = adapt(tiny_model, *batch, TTTOptions(loss_type="entropy", steps=2))
    assert all(equal(adaptation.fast_weights, tiny_model.initial_fast_weights(), row) for row in range(3))
    assert adaptation.losses.tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("parameters", TTT_PARAMETERS)
@pytest.mark.parametrize("loss_type", TTT_LOSS_TYPES)
def test_utterances_without_frames_keep_their_weights_beside_others(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], loss_type: str, parameters: str
) -> None:
    input_values, attention_mask = batch
    attention_mask[1, 100:] = 0
    options = TTTOptions(loss_type=loss_type, parameters=parameters)
    with adapted(tiny_model, input_values, attention_mask, options) as adaptation:
        assert adaptation.logits.isfinite().all()
    assert adaptation.is_adapted.tolist() == [True, False, True]
    assert adaptation.losses[0, 1] == 0


@pytest.mark.parametrize("num_samples", [1, 160, 399])
def test_a_batch_too_short_for_any_frame_adapts_to_nothing(tiny_model: HybridASRForCTC, num_samples: int) -> None:
    with adapted(tiny_model, torch.randn(2, num_samples), None, TTTOptions(parameters="both")) as adaptation:
        assert adaptation.logits.shape == (2, 0, tiny_model.config.vocab_size)
    assert not adaptation.is_adapted.any()


@pytest.mark.parametrize("loss_type", TTT_LOSS_TYPES)
def test_silence_stays_finite(tiny_model: HybridASRForCTC, loss_type: str) -> None:
    options = TTTOptions(loss_type=loss_type, steps=2, parameters="both")
    with adapted(tiny_model, torch.zeros(2, 8000), None, options) as adaptation:
        assert adaptation.logits.isfinite().all()
    assert adaptation.losses.isfinite().all()


@pytest.mark.parametrize("loss_type", TTT_LOSS_TYPES)
def test_a_gradient_that_is_not_finite_moves_nothing_and_leaves_the_others_alone(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], loss_type: str
) -> None:
    input_values, attention_mask = batch
    broken = input_values.clone()
    broken[1, 3000] = torch.nan
    options = TTTOptions(loss_type=loss_type, parameters="both")
    adaptation = adapt(tiny_model, broken, attention_mask, options)
    expected = adapt(tiny_model, input_values, attention_mask, options)
    for name, filters in tiny_model.initial_front_end().items():
        assert torch.equal(adaptation.front_end[name][1], filters)
    assert equal(adaptation.fast_weights, tiny_model.initial_fast_weights(), 1)
    for row in (0, 2):
        assert equal(adaptation.fast_weights, expected.fast_weights, row)


def test_the_masks_depend_on_the_seed_and_the_step(tiny_model: HybridASRForCTC, encoded: tuple[Tensor, Tensor]) -> None:
    options, other_seed = TTTOptions(seed=0), TTTOptions(seed=1)
    with torch.no_grad():
        first = self_supervised_losses(tiny_model, *encoded, options)
        assert torch.equal(first, self_supervised_losses(tiny_model, *encoded, options))
        assert not torch.equal(first, self_supervised_losses(tiny_model, *encoded, options, step=1))
        assert not torch.equal(first, self_supervised_losses(tiny_model, *encoded, other_seed))


def test_the_models_own_options_are_the_default(tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor]) -> None:
    tiny_model.config.ttt_steps = 3
    with adapted(tiny_model, *batch) as adaptation:
        assert adaptation.losses.shape == (3, 3)


def test_evaluation_mode_restores_a_mixture_of_modes(tiny_model: HybridASRForCTC) -> None:
    tiny_model.eval()
    tiny_model.layers[1].train()
    before = [module.training for module in tiny_model.modules()]
    with evaluation_mode(tiny_model):
        assert not any(module.training for module in tiny_model.modules())
    assert [module.training for module in tiny_model.modules()] == before
