"""Three utterances of noise, and tiny random models behind the protocol of adaptation."""

import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

from lact_asr_model.acoustic_models.hugging_face import HuggingFaceAcousticModel
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """input_values and attention_mask of three utterances of different lengths."""
    torch.manual_seed(1)
    lengths_samples = [16000, 9000, 12345]
    attention_mask = (torch.arange(max(lengths_samples)) < torch.tensor(lengths_samples)[:, None]).long()
    return {"input_values": torch.randn(attention_mask.shape) * attention_mask, "attention_mask": attention_mask}


@pytest.fixture
def tiny(tiny_model: HybridASRForCTC, processor: Wav2Vec2Processor) -> HybridAcousticModel:
    """The tiny model itself, whose parameters require gradients: adaptation must not give them any."""
    return HybridAcousticModel(tiny_model, processor)


@pytest.fixture
def decisive(decisive_model: HybridASRForCTC, processor: Wav2Vec2Processor) -> HybridAcousticModel:
    return HybridAcousticModel(decisive_model, processor)


@pytest.fixture
def with_exit(tiny_config: HybridASRConfig, processor: Wav2Vec2Processor) -> HybridAcousticModel:
    """Four blocks, with CTC heads after the second and the third as well."""
    torch.manual_seed(0)
    tiny_config.num_hidden_layers = 4
    tiny_config.intermediate_ctc_layers = [2, 3]
    return HybridAcousticModel(HybridASRForCTC(tiny_config).eval(), processor)


@pytest.fixture
def foreign(wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor) -> HuggingFaceAcousticModel:
    """A model of `transformers`."""
    return HuggingFaceAcousticModel(wav2vec2, processor.feature_extractor, processor.tokenizer)
