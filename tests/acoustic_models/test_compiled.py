"""Compiled recognition says what recognition says, with few graphs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForCTC

from lact_asr_model.acoustic_models.compiled import CompiledRecognition, graph_seconds
from lact_asr_model.acoustic_models.hugging_face import HuggingFaceAcousticModel
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.commands.transcribe import main
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.recognition.transcriber import Transcriber

RATE_HZ = 16000
RECORDING = Path(__file__).parents[2] / "lact_asr_model" / "bundled_recordings" / "1673-143397-0008.mp3"


@pytest.fixture
def decisive(decisive_model: HybridASRForCTC, processor) -> HybridAcousticModel:
    return HybridAcousticModel(decisive_model, processor)


@pytest.fixture
def recognize_by(decisive: HybridAcousticModel, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces the backend of compiled recognition by a quick one, or by one that counts or fails."""

    def replace(backend: object) -> None:
        monkeypatch.setattr(
            HybridAcousticModel, "compiled", lambda self, size: CompiledRecognition(self.model, size, backend)
        )

    torch.compiler.reset()
    return replace


def recording(seconds: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * RATE_HZ))
    return (noise * np.sin(np.arange(len(noise)) / 2000)).astype(np.float32)


def test_ten_lengths_need_two_graphs_and_say_what_they_say_uncompiled(
    decisive: HybridAcousticModel, recognize_by: Callable[..., None]
) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def counted(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    recognize_by(counted)
    recordings = [recording(0.3 + 0.13 * number, number) for number in range(10)]  # up to 1.47 s
    plain = Transcriber(decisive, keep_emissions=True).transcribe_samples(recordings)
    compiled = Transcriber(decisive, keep_emissions=True, compile=True).transcribe_samples(recordings)
    assert len(graphs) == 2  # of 1 and 1.5 seconds
    assert all(transcript.text for transcript in plain)
    for one, other in zip(compiled, plain, strict=True):
        assert one.text == other.text
        np.testing.assert_allclose(one.emissions[0], other.emissions[0], atol=1e-3)


def test_a_batch_that_is_not_full_takes_the_graph_of_a_full_one(
    decisive: HybridAcousticModel, recognize_by: Callable[..., None]
) -> None:
    recognize_by("aot_eager")
    recordings = [recording(0.9 + 0.01 * number, number) for number in range(5)]
    transcriber = Transcriber(decisive, batch_size=3, keep_emissions=True, compile=True)
    plain = Transcriber(decisive, keep_emissions=True).transcribe_samples(recordings)
    torch._dynamo.utils.counters.clear()
    for one, other in zip(transcriber.transcribe_samples(recordings), plain, strict=True):
        assert one.text == other.text
        np.testing.assert_allclose(one.emissions[0], other.emissions[0], atol=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_graphs_lie_at_most_half_apart() -> None:
    lengths = [graph_seconds(seconds / 100) for seconds in range(1, 3001)]
    assert sorted(set(lengths)) == [1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    assert all(length >= seconds / 100 for seconds, length in enumerate(lengths, start=1))
    assert all(length <= 1.5 * seconds / 100 for seconds, length in enumerate(lengths, start=1) if seconds >= 100)


def test_where_nothing_can_be_compiled_one_line_says_so(
    decisive: HybridAcousticModel, recognize_by: Callable[..., None]
) -> None:
    def fails(graph: object, inputs: object) -> None:
        raise RuntimeError("no compiler was found")

    recognize_by(fails)
    with pytest.raises(UserError, match="compile: PyTorch cannot compile here .*no compiler was found"):
        Transcriber(decisive, compile=True).transcribe_samples([recording(1)])


def test_what_cannot_be_compiled_is_refused(
    decisive: HybridAcousticModel, wav2vec2: Wav2Vec2ForCTC, processor, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="compile: adaptation cannot be compiled"):
        Transcriber(decisive, ttt_options=AdaptationOptions(), compile=True)
    foreign = HuggingFaceAcousticModel(wav2vec2, processor.feature_extractor, processor.tokenizer)
    with pytest.raises(UserError, match="compile: takes a model of this package"):
        Transcriber(foreign, compile=True)
    with pytest.raises(SystemExit) as stopped:
        main(["--compile", "--use_ttt", str(RECORDING)])
    assert stopped.value.code == 2
    assert "compile: adaptation cannot be compiled" in capsys.readouterr().err
