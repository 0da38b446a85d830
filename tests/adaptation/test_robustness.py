"""Whatever is heard, adaptation stays finite and the model stays as it was."""

import pytest
import torch
from torch import Tensor

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.options import SELF_SUPERVISED, AdaptationOptions
from lact_asr_model.adaptation.procedure import adapt

SAMPLING_RATE = 16000
GATES = [{}, {"skip_entropy": 1.0}, {"unadapted_share": 0.5}]


def noise(seconds: float, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(round(seconds * SAMPLING_RATE), generator=torch.Generator().manual_seed(5))


def click() -> Tensor:
    samples = torch.zeros(SAMPLING_RATE // 2)
    samples[4000] = 1e3
    return samples


def assert_it_survives(model: AcousticModel, recordings: list[Tensor], options: AdaptationOptions) -> None:
    """Adapt to the recordings as one batch; each is moved and recognised, or left alone, without any NaN."""
    module = model.model
    lengths = torch.tensor([len(samples) for samples in recordings])
    inputs = {"input_values": torch.nn.utils.rnn.pad_sequence(recordings, batch_first=True)}
    if len(recordings) > 1:
        inputs["attention_mask"] = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    parameters = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    adaptation = adapt(model, inputs, options)
    assert adaptation.logits.isfinite().all()
    num_frames = module._get_feat_extract_output_lengths(lengths)
    assert adaptation.frame_mask.sum(dim=1).tolist() == num_frames.tolist()
    assert adaptation.logits.shape[:2] == (len(recordings), int(num_frames.max()))
    assert adaptation.losses.isfinite().all()
    assert all(weight.isfinite().all() for weight in adaptation.weights.values())
    assert all(torch.equal(tensor, parameters[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("gate", GATES, ids=str)
@pytest.mark.parametrize("loss_type", SELF_SUPERVISED)
def test_silence_noise_clicks_and_scraps(decisive: HybridAcousticModel, loss_type: str, gate: dict) -> None:
    options = AdaptationOptions(loss_type=loss_type, steps=2, parameters="both", **gate)
    recordings = [torch.zeros(8000), noise(0.5), noise(0.5, scale=1e4), click(), noise(0.1), noise(0.025)]
    assert_it_survives(decisive, recordings, options)
    for samples in (recordings[0], recordings[-1]):
        assert_it_survives(decisive, [samples], options)


@pytest.mark.parametrize("parameters", ["front_end", "norms", "attention", "suta"])
@pytest.mark.parametrize("samples", [torch.zeros(8000), noise(0.5, scale=1e4), click(), noise(0.025)])
def test_any_model_and_any_group(
    foreign: AcousticModel, decisive: HybridAcousticModel, samples: Tensor, parameters: str
) -> None:
    options = AdaptationOptions(loss_type="entropy_mcc", steps=2, parameters=parameters, unadapted_share=0.5)
    for model in (foreign, decisive):
        assert_it_survives(model, [samples], options)


@pytest.mark.parametrize("loss_type", SELF_SUPERVISED)
def test_a_minute_in_one_piece(decisive: HybridAcousticModel, loss_type: str) -> None:
    options = AdaptationOptions(loss_type=loss_type, parameters="both", skip_entropy=0.1)
    assert_it_survives(decisive, [noise(60)], options)


@pytest.mark.parametrize("gate", GATES, ids=str)
@pytest.mark.parametrize("loss_type", SELF_SUPERVISED)
def test_a_model_that_says_nothing(decisive: HybridAcousticModel, loss_type: str, gate: dict) -> None:
    with torch.no_grad():
        decisive.model.lm_head.bias[0] = 1000
    options = AdaptationOptions(loss_type=loss_type, steps=2, parameters="both", **gate)
    assert_it_survives(decisive, [noise(0.5), torch.zeros(4000)], options)
