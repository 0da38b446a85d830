"""The full-size model of the specification on a CPU: one training step, one adapted transcription."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2Processor

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.procedure import adapt
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

CONFIG = Path(__file__).parents[1] / "configs" / "hybrid_asr_config.json"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model() -> HybridASRForCTC:
    torch.manual_seed(0)
    return HybridASRForCTC(HybridASRConfig.from_file(CONFIG))


def audio(seconds: float) -> Tensor:
    """[1, samples], zero mean and unit variance."""
    return torch.randn(1, int(seconds * 16000), generator=torch.Generator().manual_seed(0))


def test_one_training_step(model: HybridASRForCTC) -> None:
    model.train()
    output = model(audio(seconds=4), labels=torch.arange(3, 30)[None])
    assert output.logits.shape == (1, 319, 30)
    assert output.loss.isfinite()
    assert output.masked_prediction_loss > 0
    output.loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    first_fast_weights = next(name for name in gradients if name.endswith("memory.w0"))
    before = model.get_parameter(first_fast_weights).detach().clone()
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    assert not torch.equal(model.get_parameter(first_fast_weights), before)
    model.zero_grad(set_to_none=True)


def test_one_adapted_transcription(model: HybridASRForCTC, processor: Wav2Vec2Processor) -> None:
    acoustic_model = HybridAcousticModel(model.eval(), processor)
    before = {name: weight.clone() for layer in model.fast_weights() for name, weight in layer.items()}
    adaptation = adapt(acoustic_model, {"input_values": audio(seconds=1)}, acoustic_model.default_options)
    assert adaptation.is_adapted.all()
    assert adaptation.losses.isfinite().all()
    assert adaptation.logits.shape == (1, 79, 30)
    assert adaptation.logits.isfinite().all()
    assert adaptation.weights.keys() == before.keys()
    for name, weight in before.items():
        assert torch.equal(model.get_parameter(name), weight)
    assert all(parameter.grad is None for parameter in model.parameters())
