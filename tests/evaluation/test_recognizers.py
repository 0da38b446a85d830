"""Recognisers: the peers' path reads and decodes as the plain one does."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from lact_asr_model.evaluation.peers import PEERS, adapt_with_peer
from lact_asr_model.inference.ttt_options import TTTOptions
from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.methods import Method, parse_methods
from lact_asr_model.evaluation.recognizers import (
    Recognizer,
    SingleRecognizer,
    make_recognizer,
    make_single_recognizer,
)
from lact_asr_model.inference.transcriber import Transcriber, vocabulary_of
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

RECORDINGS = [np.random.default_rng(seed).normal(size=8000 + 1600 * seed).astype(np.float32) / 9 for seed in range(3)]
INAUDIBLE = [np.zeros(16000, np.float32), np.ones(100, np.float32), np.zeros(0, np.float32)]


def texts(recognizer: Recognizer, recordings: Sequence[np.ndarray]) -> list[str]:
    return [transcript.text for transcript in recognizer.transcribe_samples(recordings)]


@pytest.fixture
def ours(tiny_model: HybridASRForCTC, processor: Wav2Vec2Processor) -> Callable[[Method], Recognizer]:
    options = TTTOptions(parameters="fast_weights", steps=1)
    return lambda method: make_recognizer(method, tiny_model, processor, options)


def test_without_steps_a_peer_reads_and_decodes_as_the_plain_recogniser(
    tiny_model: HybridASRForCTC, processor: Wav2Vec2Processor, ours: Callable[[Method], Recognizer]
) -> None:
    plain = texts(ours(Method("none", "none")), RECORDINGS)
    tent = dataclasses.replace(PEERS["tent"], steps=0)
    alone = SingleRecognizer(tiny_model, processor.feature_extractor, vocabulary_of(processor), peer=tent)
    assert texts(alone, RECORDINGS) == plain
    assert any(plain)


@pytest.mark.parametrize("name", ["none", "tent", "suta:2", "suta_mean:2", "ttt", "ttt_front_end:2"])
def test_every_method_survives_silence_and_too_little_audio(ours: Callable[[Method], Recognizer], name: str) -> None:
    (method,) = parse_methods(name)
    assert texts(ours(method), [RECORDINGS[0], *INAUDIBLE])[1:] == ["", "", ""]


def test_the_methods_own_steps_and_parameters_win(
    tiny_model: HybridASRForCTC, processor: Wav2Vec2Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        Transcriber,
        "transcribe_samples",
        lambda self, recordings: seen.append((self.ttt_options.steps, self.ttt_options.parameters)) or [],
    )
    options = TTTOptions(parameters="both", steps=3)
    for method in parse_methods("ttt,ttt:1,ttt_front_end:2"):
        make_recognizer(method, tiny_model, processor, options).transcribe_samples(RECORDINGS)
    assert seen == [(3, "both"), (1, "both"), (2, "front_end")]


def test_only_a_stream_is_carried_on(ours: Callable[[Method], Recognizer]) -> None:
    modes = {}
    for method in parse_methods("ttt,continual,continual_front_end:2"):
        recognizer = ours(method)
        assert isinstance(recognizer, Transcriber)
        assert recognizer.ttt_options is not None
        modes[method.name] = recognizer.ttt_options.mode
    assert modes == {"ttt": "episodic", "continual": "continual", "continual_front_end:2": "continual"}


@pytest.mark.parametrize("name", ["none", "tent:1", "suta:1", "ttt:1"])
def test_every_transcript_says_whether_it_was_adapted(ours: Callable[[Method], Recognizer], name: str) -> None:
    (method,) = parse_methods(name)
    transcripts = ours(method).transcribe_samples([RECORDINGS[0], *INAUDIBLE])
    assert [transcript.is_adapted for transcript in transcripts] == [name != "none", False, False, False]


def test_where_every_frame_says_blank_tent_has_not_adapted(
    wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor
) -> None:
    with torch.no_grad():
        wav2vec2.lm_head.bias[0] = 1e4
    extractor, vocabulary = processor.feature_extractor, vocabulary_of(processor)
    tent = make_single_recognizer(Method("tent:1", "tent", 1), wav2vec2, extractor, vocabulary)
    (transcript,) = tent.transcribe_samples(RECORDINGS[:1])
    assert (transcript.text, transcript.is_adapted) == ("", False)


def test_unknown_parameters_are_one_clear_error(ours: Callable[[Method], Recognizer]) -> None:
    with pytest.raises(UserError, match="it must be one of fast_weights, front_end, both"):
        ours(Method("ttt_fog", "ttt", None, "fog"))


def test_another_model_runs_plainly_and_with_peers(wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor) -> None:
    extractor, vocabulary = processor.feature_extractor, vocabulary_of(processor)
    plain = make_single_recognizer(Method("none", "none"), wav2vec2, extractor, vocabulary)
    inputs = processor(RECORDINGS[0], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        best = wav2vec2(**inputs).logits[0].argmax(dim=-1)
    assert texts(plain, [*INAUDIBLE, RECORDINGS[0]]) == ["", "", "", " ".join(processor.decode(best).split())]
    assert texts(plain, RECORDINGS[:1]) != [""]
    suta = make_single_recognizer(Method("suta:3", "suta", 3), wav2vec2, extractor, vocabulary)
    steps = []
    wav2vec2.lm_head.register_forward_hook(lambda *_: steps.append(1))
    texts(suta, RECORDINGS[:1])
    assert len(steps) == 3 + 1
    for method in parse_methods("ttt:1,continual:1"):
        with pytest.raises(UserError, match=f"method '{method.name}': adapts models of this package only"):
            make_single_recognizer(method, wav2vec2, extractor, vocabulary)


def test_a_long_recording_is_recognised_in_pieces(wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor) -> None:
    extractor, vocabulary = processor.feature_extractor, vocabulary_of(processor)
    lengths = []
    wav2vec2.register_forward_pre_hook(
        lambda module, args, inputs: lengths.append(inputs["input_values"].shape[1]), with_kwargs=True
    )
    samples = np.tile(RECORDINGS[0], 5)
    SingleRecognizer(wav2vec2, extractor, vocabulary, chunk_seconds=1.0).transcribe_samples([samples])
    assert sum(lengths) == len(samples)
    assert max(lengths) <= 16000


def test_adaptation_changes_what_is_recognised(wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor) -> None:
    """With a step that is large enough, or the comparison would compare nothing."""
    inputs = processor(RECORDINGS[0], sampling_rate=16000, return_tensors="pt")
    peer = dataclasses.replace(PEERS["suta"], learning_rate=0.1)
    extractor, vocabulary = processor.feature_extractor, vocabulary_of(processor)
    suta = make_single_recognizer(Method("suta", "suta"), wav2vec2, extractor, vocabulary, peer_learning_rate=0.1)
    adapted = texts(suta, RECORDINGS[:1])
    logits = adapt_with_peer(wav2vec2, inputs, peer).logits[0]
    assert adapted == [" ".join(processor.decode(logits.argmax(dim=-1)).split())]
    assert adapted != texts(SingleRecognizer(wav2vec2, extractor, vocabulary), RECORDINGS[:1])
