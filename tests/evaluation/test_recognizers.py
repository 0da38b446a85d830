"""The recogniser of each method: what it adapts, and with which steps."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.hugging_face import HuggingFaceAcousticModel
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.peers import PEERS, Peer, adapt_with_peer
from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.methods import PEER_NAMES, Method, parse_methods
from lact_asr_model.evaluation.recognizers import make_recognizer
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.recognition.transcriber import Transcriber

RECORDINGS = [np.random.default_rng(seed).normal(size=8000 + 1600 * seed).astype(np.float32) / 9 for seed in range(3)]
HUM = 1e-5 * np.sin(np.arange(16000, dtype=np.float32))  # below one step of 16-bit audio
INAUDIBLE = [np.zeros(16000, np.float32), np.ones(100, np.float32), np.zeros(0, np.float32)]
Make = Callable[..., Transcriber]


def texts(recognizer: Transcriber, recordings: Sequence[np.ndarray]) -> list[str]:
    return [transcript.text for transcript in recognizer.transcribe_samples(recordings)]


@pytest.fixture
def ours(tiny_model: HybridASRForCTC, processor: Wav2Vec2Processor) -> HybridAcousticModel:
    return HybridAcousticModel(tiny_model, processor)


@pytest.fixture
def foreign(wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor) -> HuggingFaceAcousticModel:
    return HuggingFaceAcousticModel(wav2vec2, processor.feature_extractor, processor.tokenizer)


@pytest.fixture(params=["ours", "foreign"])
def model(request: pytest.FixtureRequest) -> AcousticModel:
    return request.getfixturevalue(request.param)


def make(name: str, model: AcousticModel, options: AdaptationOptions | None = None, **more: Any) -> Transcriber:
    (method,) = parse_methods(name)
    return make_recognizer(method, model, options or AdaptationOptions(loss_type="entropy"), **more)


def test_the_names_of_peers_are_those_that_there_are() -> None:
    assert set(PEER_NAMES) == set(PEERS)


@pytest.mark.parametrize("name", ["none", "tent", "suta:2", "suta_mean:2", "ttt_norms", "ttt_front_end:2"])
def test_every_method_survives_silence_and_too_little_audio(model: AcousticModel, name: str) -> None:
    first, *others = texts(make(name, model), [RECORDINGS[0], *INAUDIBLE])
    assert first
    assert others == ["", "", ""]


def test_the_methods_own_steps_and_parameters_win(model: AcousticModel) -> None:
    options = AdaptationOptions(parameters="both", steps=3, learning_rate=0.2, seed=4)
    chosen = {
        method.name: make_recognizer(method, model, options).ttt_options
        for method in parse_methods("none,ttt,ttt:1,ttt_front_end:2,ttt_norms")
    }
    assert chosen == {
        "none": None,
        "ttt": options,
        "ttt:1": replace(options, steps=1),
        "ttt_front_end:2": replace(options, steps=2, parameters="front_end"),
        "ttt_norms": replace(options, parameters="norms"),
    }


def test_peers_have_their_published_settings_unless_told_otherwise(model: AcousticModel) -> None:
    tent, suta = PEERS["tent"], PEERS["suta"]
    assert (tent.steps, tent.learning_rate, suta.steps, suta.learning_rate) == (10, 2e-5, 10, 2e-5)
    assert make("tent", model).ttt_options == tent
    assert make("suta:3", model).ttt_options == replace(suta, steps=3)
    told = make("suta_mean", model, peer_learning_rate=1e-3).ttt_options
    assert told == replace(PEERS["suta_mean"], learning_rate=1e-3)
    for rate in (0.0, -1.0):
        with pytest.raises(UserError, match=f"learning rate {rate} of tent and suta"):
            make("suta", model, peer_learning_rate=rate)


def test_only_a_stream_is_carried_on(model: AcousticModel) -> None:
    modes = {}
    for method in parse_methods("ttt,continual,continual_front_end:2"):
        options = make_recognizer(method, model, AdaptationOptions(mode="episodic")).ttt_options
        assert isinstance(options, AdaptationOptions)
        modes[method.name] = options.mode
    assert modes == {"ttt": "episodic", "continual": "continual", "continual_front_end:2": "continual"}


@pytest.mark.parametrize("name", ["none", "tent:1", "suta:1", "ttt_norms:1", "ttt_front_end:1"])
def test_every_transcript_says_whether_it_was_adapted(model: AcousticModel, name: str) -> None:
    transcripts = make(name, model).transcribe_samples([RECORDINGS[0], *INAUDIBLE])
    assert [transcript.is_adapted for transcript in transcripts] == [name != "none", False, False, False]


def test_where_every_frame_says_blank_tent_has_not_adapted(model: AcousticModel) -> None:
    with torch.no_grad():
        model.model.lm_head.bias[model.blank_id] = 1e4
    (transcript,) = make("tent:1", model).transcribe_samples(RECORDINGS[:1])
    assert (transcript.text, transcript.is_adapted) == ("", False)


def test_fast_weights_are_ours_alone(foreign: HuggingFaceAcousticModel, ours: HybridAcousticModel) -> None:
    assert texts(make("ttt_fast_weights", ours), RECORDINGS[:1])
    with pytest.raises(UserError, match="this model has no fast_weights to move"):
        make("ttt_fast_weights", foreign).transcribe_samples(RECORDINGS[:1])


def test_a_long_recording_is_recognised_in_pieces(foreign: HuggingFaceAcousticModel) -> None:
    lengths = []
    foreign.model.register_forward_pre_hook(
        lambda module, args, inputs: lengths.append(inputs["input_values"].shape[1]), with_kwargs=True
    )
    samples = np.tile(RECORDINGS[0], 5)
    Transcriber(foreign, chunk_seconds=1.0).transcribe_samples([samples])
    assert sum(lengths) == len(samples)
    assert max(lengths) <= 16000


def test_adaptation_changes_what_is_recognised(foreign: HuggingFaceAcousticModel, processor: Wav2Vec2Processor) -> None:
    """With a step that is large enough, or the comparison would compare nothing."""
    inputs = dict(processor(RECORDINGS[0], sampling_rate=16000, return_tensors="pt"))
    peer: Peer = replace(PEERS["suta"], learning_rate=0.1)
    adapted = texts(make("suta", foreign, peer_learning_rate=0.1), RECORDINGS[:1])
    logits = adapt_with_peer(foreign, inputs, peer).logits[0]
    assert adapted == [" ".join(processor.decode(logits.argmax(dim=-1)).split())]
    assert adapted != texts(make("none", foreign), RECORDINGS[:1])


def test_a_method_of_a_batch_is_that_of_its_utterances(model: AcousticModel) -> None:
    for name in ("none", "ttt_front_end:1", "tent:1"):
        options = AdaptationOptions(loss_type="entropy", front_end_step=0.05)
        one_by_one = texts(make(name, model, options), RECORDINGS)
        assert texts(make(name, model, options, batch_size=3), RECORDINGS) == one_by_one
        assert all(one_by_one)


def test_a_method_without_adaptation_is_a_plain_transcriber(model: AcousticModel) -> None:
    recognizer = make_recognizer(Method("none", "none"), model, AdaptationOptions())
    assert recognizer.ttt_options is None
    assert texts(recognizer, RECORDINGS) == texts(Transcriber(model), RECORDINGS)
