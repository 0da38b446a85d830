"""Whatever is heard, adaptation stays finite and the model stays as it was."""

import pytest
import torch
from torch import Tensor

from lact_asr_model.configuration_hybrid_asr import TTT_LOSS_TYPES
from lact_asr_model.inference.ttt_options import TTTOptions
from lact_asr_model.inference.ttt_procedure import adapted
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

SAMPLING_RATE = 16000
GATES = [{}, {"skip_entropy": 1.0}, {"accept": True}]


def noise(seconds: float, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(round(seconds * SAMPLING_RATE), generator=torch.Generator().manual_seed(5))


def click() -> Tensor:
    samples = torch.zeros(SAMPLING_RATE // 2)
    samples[4000] = 1e3
    return samples


def assert_it_survives(model: HybridASRForCTC, recordings: list[Tensor], options: TTTOptions) -> None:
    """Adapt to the recordings as one batch; the last one is moved and recognised, or left alone, without any NaN."""
    lengths = torch.tensor([len(samples) for samples in recordings])
    input_values = torch.nn.utils.rnn.pad_sequence(recordings, batch_first=True)
    attention_mask = (torch.arange(input_values.shape[1]) < lengths[:, None]).long()
    parameters = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with adapted(model, input_values, attention_mask if len(recordings) > 1 else None, options) as adaptation:
        assert adaptation.logits.isfinite().all()
        assert adaptation.logits.shape[:2] == (len(recordings), int(model.config.num_frames(lengths).max()))
    assert adaptation.losses.isfinite().all()
    assert all(tensor.isfinite().all() for tensor in adaptation.weights.tensors)
    assert all(torch.equal(tensor, parameters[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("gate", GATES, ids=str)
@pytest.mark.parametrize("loss_type", TTT_LOSS_TYPES)
def test_silence_noise_clicks_and_scraps(decisive_model: HybridASRForCTC, loss_type: str, gate: dict) -> None:
    options = TTTOptions(loss_type=loss_type, steps=2, parameters="both", **gate)
    recordings = [torch.zeros(8000), noise(0.5), noise(0.5, scale=1e4), click(), noise(0.1), noise(0.025)]
    assert_it_survives(decisive_model, recordings, options)
    for samples in (recordings[0], recordings[-1]):
        assert_it_survives(decisive_model, [samples], options)


@pytest.mark.parametrize("loss_type", TTT_LOSS_TYPES)
def test_a_minute_in_one_piece(decisive_model: HybridASRForCTC, loss_type: str) -> None:
    options = TTTOptions(loss_type=loss_type, parameters="both", skip_entropy=0.1, accept=True)
    assert_it_survives(decisive_model, [noise(60)], options)


@pytest.mark.parametrize("gate", GATES, ids=str)
@pytest.mark.parametrize("loss_type", TTT_LOSS_TYPES)
def test_a_model_that_says_nothing(decisive_model: HybridASRForCTC, loss_type: str, gate: dict) -> None:
    with torch.no_grad():
        decisive_model.lm_head.bias[0] = 1000
    options = TTTOptions(loss_type=loss_type, steps=2, parameters="both", **gate)
    assert_it_survives(decisive_model, [noise(0.5), torch.zeros(4000)], options)


def test_a_gate_leaves_alone_what_a_silent_model_could_only_guess_about(decisive_model: HybridASRForCTC) -> None:
    """Without any symbol there is no entropy to lower: neither gate lets masked prediction move anything."""
    with torch.no_grad():
        decisive_model.lm_head.bias[0] = 1000
    for gate, is_adapted in ({}, True), ({"skip_entropy": 1e-3}, False), ({"accept": True}, False):
        with adapted(decisive_model, noise(0.5)[None], None, TTTOptions(**gate)) as adaptation:
            assert adaptation.is_adapted.tolist() == [is_adapted]
