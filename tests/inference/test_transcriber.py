from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import Wav2Vec2ForCTC

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.hugging_face import HuggingFaceAcousticModel
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.peers import PEERS, Peer, adapt_with_peer
from lact_asr_model.adaptation.procedure import adapt
from lact_asr_model.adaptation.protocol import Weights
from lact_asr_model.decoding.greedy import GreedyDecoder
from lact_asr_model.decoding.hypothesis import Decoder, Hypothesis, Word
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.recognition.transcriber import STAGES, Transcriber
from lact_asr_model.recognition.transcript import Transcript

SAMPLING_RATE = 16000


@pytest.fixture
def tiny(tiny_model: HybridASRForCTC, processor) -> HybridAcousticModel:
    return HybridAcousticModel(tiny_model, processor)


@pytest.fixture
def decisive(decisive_model: HybridASRForCTC, processor) -> HybridAcousticModel:
    return HybridAcousticModel(decisive_model, processor)


@pytest.fixture
def foreign(wav2vec2: Wav2Vec2ForCTC, processor) -> HuggingFaceAcousticModel:
    return HuggingFaceAcousticModel(wav2vec2, processor.feature_extractor, processor.tokenizer)


class LengthDecoder(Decoder):
    """Says one word per utterance, which covers all of its frames and names their number."""

    def decode(self, log_probs: torch.Tensor) -> Hypothesis:
        frames = len(log_probs)
        return Hypothesis(f"N{frames}", [Word(f"N{frames}", 0, frames, 0.5)], -float(frames))


class KeepingDecoder(LengthDecoder):
    """Keeps the log-probabilities of every utterance, in the order in which they were recognised."""

    def __init__(self) -> None:
        self.log_probs: list[torch.Tensor] = []

    def decode(self, log_probs: torch.Tensor) -> Hypothesis:
        self.log_probs.append(log_probs)
        return super().decode(log_probs)


def recording(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * SAMPLING_RATE)).astype(np.float32)


def assert_same(transcripts: list[Transcript], expected: list[Transcript]) -> None:
    assert [transcript.text for transcript in transcripts] == [other.text for other in expected]
    for transcript, other in zip(transcripts, expected, strict=True):
        assert [(word.word, word.start_seconds, word.end_seconds) for word in transcript.words] == [
            (word.word, word.start_seconds, word.end_seconds) for word in other.words
        ]
        assert transcript.score == pytest.approx(other.score, rel=1e-3)


@pytest.mark.parametrize("ttt_options", [None, AdaptationOptions(learning_rate=0.05)])
def test_batching_changes_nothing(tiny: HybridAcousticModel, ttt_options: AdaptationOptions | None) -> None:
    recordings = [recording(seconds, seed) for seed, seconds in enumerate([0.5, 1.4, 0.01, 0.9, 0.7])]
    one_by_one = Transcriber(tiny, ttt_options=ttt_options).transcribe_samples(recordings)
    together = Transcriber(tiny, ttt_options=ttt_options, batch_size=3).transcribe_samples(recordings)
    assert_same(together, one_by_one)
    assert [bool(transcript.text) for transcript in together] == [True, True, False, True, True]
    assert [transcript.is_adapted for transcript in together] == [bool(ttt_options and t.text) for t in together]
    assert [transcript.duration_seconds for transcript in together] == [0.5, 1.4, 0.01, 0.9, 0.7]


def test_it_is_the_model_and_the_adaptation(tiny: HybridAcousticModel) -> None:
    options = AdaptationOptions(loss_type="entropy", steps=2, learning_rate=0.05)
    samples = recording(1.0)
    inputs = tiny.processor(samples, sampling_rate=SAMPLING_RATE, return_tensors="pt")
    vocabulary = tiny.vocabulary

    def spell(logits: torch.Tensor) -> str:
        path = torch.unique_consecutive(logits[0].argmax(-1)).tolist()
        text = "".join(vocabulary[index] for index in path if vocabulary[index] not in ("<pad>", "<unk>"))
        return " ".join(text.replace("|", " ").split())

    plain = tiny.model(inputs.input_values, inputs.attention_mask).logits
    adaptation = adapt(tiny, dict(inputs), options)
    expected = spell(adaptation.logits)
    (transcript,) = Transcriber(tiny, ttt_options=options).transcribe_samples([samples])
    assert transcript.text == expected != spell(plain)
    assert transcript.ttt_losses == pytest.approx(adaptation.losses[:, 0].tolist())
    (transcript,) = Transcriber(tiny).transcribe_samples([samples])
    assert transcript.text == spell(plain)
    assert transcript.ttt_losses == []


def test_a_long_recording_is_recognised_in_pieces_at_its_own_times(tiny: HybridAcousticModel) -> None:
    samples = recording(5.2)
    pauses = [1.7, 3.5]
    for pause in pauses:
        samples[round((pause - 0.15) * SAMPLING_RATE) : round((pause + 0.15) * SAMPLING_RATE)] *= 1e-3
    transcriber = Transcriber(tiny, decoder=LengthDecoder(), chunk_seconds=2.0, batch_size=2)
    (transcript,) = transcriber.transcribe_samples([samples])
    assert [word.start_seconds for word in transcript.words] == pytest.approx([0, *pauses], abs=0.2)
    assert [word.end_seconds for word in transcript.words] == pytest.approx([*pauses, 5.2], abs=0.2)
    assert transcript.text == " ".join(word.word for word in transcript.words)
    assert transcript.duration_seconds == pytest.approx(5.2)
    assert transcript.score == -sum(int(word.word[1:]) for word in transcript.words)


def test_a_long_file_gives_what_its_samples_give(tiny: HybridAcousticModel, tmp_path: Path) -> None:
    samples = recording(3.7)
    soundfile.write(tmp_path / "long.wav", samples, SAMPLING_RATE, subtype="FLOAT")
    transcriber = Transcriber(tiny, chunk_seconds=1.5, batch_size=2, ttt_options=AdaptationOptions(steps=2))
    (result,) = transcriber.transcribe_files([tmp_path / "long.wav"])
    assert result.transcript is not None
    assert_same([result.transcript], transcriber.transcribe_samples([samples]))
    assert result.transcript.is_adapted
    assert len(result.transcript.ttt_losses) == 2


@pytest.mark.parametrize("batch_size", [1, 2, 10])
def test_a_bad_file_stops_no_other_and_the_order_stays(
    tiny: HybridAcousticModel, recordings_dir: Path, tmp_path: Path, batch_size: int
) -> None:
    damaged_late = recording(4.0)
    damaged_late[-5] = np.nan
    soundfile.write(tmp_path / "damaged_late.wav", damaged_late, SAMPLING_RATE, subtype="FLOAT")
    paths = [
        recordings_dir / "mono.wav",
        recordings_dir / "corrupt.wav",
        tmp_path / "damaged_late.wav",
        recordings_dir / "silence.wav",
        recordings_dir / "missing.wav",
        recordings_dir / "compressed.mp3",
    ]
    transcriber = Transcriber(tiny, chunk_seconds=1.5, batch_size=batch_size)
    results = list(transcriber.transcribe_files(paths))
    assert [result.path for result in results] == paths
    assert [result.error is None for result in results] == [True, False, False, True, False, True]
    for result in results:
        assert (result.transcript is None) == (result.error is not None)
    alone = [next(Transcriber(tiny, chunk_seconds=1.5).transcribe_files([path])) for path in paths]
    assert_same(
        [result.transcript for result in results if result.transcript],
        [result.transcript for result in alone if result.transcript],
    )


def test_results_come_as_soon_as_they_are_there(tiny: HybridAcousticModel, recordings_dir: Path) -> None:
    asked = []

    def paths():
        for name in ("mono.wav", "compressed.mp3", "silence.wav"):
            asked.append(name)
            yield recordings_dir / name

    results = Transcriber(tiny).transcribe_files(paths())
    assert next(results).path.name == "mono.wav"
    assert asked == ["mono.wav"]


@pytest.mark.parametrize(
    "samples",
    [np.zeros(0), np.zeros(16000), np.full(16000, 0.3), np.ones(1), recording(0.01), 1e-6 * recording(1.0)],
    ids=["empty", "zeros", "constant", "one_sample", "10_ms", "below_16_bit"],
)
@pytest.mark.parametrize("ttt_options", [None, AdaptationOptions()])
def test_nothing_to_hear_is_an_empty_transcript(
    tiny: HybridAcousticModel, samples: np.ndarray, ttt_options: AdaptationOptions | None
) -> None:
    transcriber = Transcriber(tiny, ttt_options=ttt_options)
    (transcript,) = transcriber.transcribe_samples([samples.astype(np.float32)])
    assert transcript == Transcript("", [], len(samples) / SAMPLING_RATE)


def test_samples_that_are_not_finite_are_refused(tiny: HybridAcousticModel) -> None:
    broken = recording(0.5)
    broken[3] = np.inf
    with pytest.raises(UserError, match="recording 1: samples are NaN or infinite"):
        Transcriber(tiny).transcribe_samples([recording(0.5), broken])


def test_time_is_booked_where_it_was_spent(tiny: HybridAcousticModel) -> None:
    plain = Transcriber(tiny)
    plain.transcribe_samples([recording(0.5), recording(0.25)])
    assert plain.audio_seconds == 0.75
    assert set(plain.stage_seconds) == set(STAGES)
    assert plain.stage_seconds["recognition"] > 0
    assert plain.stage_seconds["decoding"] > 0
    assert plain.stage_seconds["adaptation"] == 0
    adapting = Transcriber(tiny, ttt_options=AdaptationOptions(steps=1))
    adapting.transcribe_samples([recording(0.5)])
    assert adapting.stage_seconds["adaptation"] > 0


def test_too_little_memory_is_one_line(tiny: HybridAcousticModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(tiny.model, "run_stack", run_out)
    with pytest.raises(UserError, match="out of memory on cpu with batch size 1 .* lower --batch_size"):
        Transcriber(tiny).transcribe_samples([recording(0.5)])


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"chunk_seconds": 0.2}, {"chunk_seconds": float("nan")}])
def test_wrong_sizes_are_refused(tiny: HybridAcousticModel, wrong: dict) -> None:
    with pytest.raises(UserError, match=r"\d|nan"):
        Transcriber(tiny, **wrong)


def test_a_single_recording_goes_without_a_mask(tiny: HybridAcousticModel, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    project = tiny.model.project

    def spy(frames: torch.Tensor, lengths: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        heard.append(None if lengths is None else lengths.tolist())
        return project(frames, lengths)

    monkeypatch.setattr(tiny.model, "project", spy)
    for options in (None, AdaptationOptions(parameters="fast_weights"), AdaptationOptions(parameters="both")):
        transcriber = Transcriber(tiny, ttt_options=options)
        heard.clear()
        (alone,) = transcriber.recognize([recording(0.8)])
        assert heard and all(lengths is None for lengths in heard)
        heard.clear()
        together = transcriber.recognize([recording(0.8), recording(0.85, seed=1)])
        assert heard and all(lengths == [12800, 13600] for lengths in heard)
        assert_same(together[:1], [alone])
        assert len(alone.text) > 5


@pytest.mark.parametrize("ttt_options", [None, AdaptationOptions(learning_rate=0.05)])
def test_on_a_cpu_only_recordings_of_similar_lengths_share_a_pass(
    tiny: HybridAcousticModel, ttt_options: AdaptationOptions | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = [recording(seconds, seed) for seed, seconds in enumerate([1.0, 0.6, 1.05, 0.01, 0.63, 2.0])]
    alone = [Transcriber(tiny, ttt_options=ttt_options).recognize([samples])[0] for samples in recordings]
    shared = []
    prepare = tiny.prepare

    def spy(batch: list[np.ndarray]) -> dict[str, torch.Tensor]:
        shared.append([len(samples) / SAMPLING_RATE for samples in batch])
        return prepare(batch)

    monkeypatch.setattr(tiny, "prepare", spy)
    transcriber = Transcriber(tiny, ttt_options=ttt_options, batch_size=6)
    together = transcriber.recognize(recordings)
    assert shared == [[2.0], [1.05, 1.0], [0.63, 0.6]]
    assert_same(together, alone)
    assert [transcript.is_adapted for transcript in together] == [transcript.is_adapted for transcript in alone]
    for transcript, other in zip(together, alone, strict=True):
        assert transcript.ttt_losses == pytest.approx(other.ttt_losses, rel=1e-3)
    assert transcriber.audio_seconds == pytest.approx(1.0 + 0.6 + 1.05 + 0.01 + 0.63 + 2.0)


def test_on_a_cpu_fast_steps_are_taken_alone(tiny: HybridAcousticModel) -> None:
    options = AdaptationOptions(loss_type="entropy", parameters="front_end", front_end_step=0.05, speed="fast")
    recordings = [recording(1.0, seed) for seed in range(3)]
    alone = [Transcriber(tiny, ttt_options=options).recognize([samples])[0] for samples in recordings]
    together = Transcriber(tiny, ttt_options=options, batch_size=3).recognize(recordings)
    assert together == alone  # to the last bit of the losses


FOREIGN = [
    None,
    AdaptationOptions(loss_type="entropy_mcc", parameters="norms", front_end_step=0.05, unadapted_share=0.5),
    replace(PEERS["suta"], steps=2, learning_rate=1e-2),
]


@pytest.mark.parametrize("options", FOREIGN, ids=["plain", "norms", "suta"])
def test_a_model_that_takes_one_by_one_is_given_one_by_one(
    foreign: HuggingFaceAcousticModel, options: AdaptationOptions | Peer | None
) -> None:
    recordings = [recording(seconds, seed) for seed, seconds in enumerate([0.5, 1.4, 0.01, 0.9])]
    recordings.append(np.zeros(8000, dtype=np.float32))
    alone = [Transcriber(foreign, ttt_options=options).transcribe_samples([samples])[0] for samples in recordings]
    transcriber = Transcriber(foreign, ttt_options=options, batch_size=5)
    together = transcriber.transcribe_samples(recordings)
    assert together == alone
    assert [bool(transcript.text) for transcript in together] == [True, True, False, True, False]
    assert [transcript.is_adapted for transcript in together] == [bool(options and t.text) for t in together]
    assert transcriber.audio_seconds == pytest.approx(0.5 + 1.4 + 0.01 + 0.9 + 0.5)


def test_a_peer_takes_our_model_one_by_one_too(tiny: HybridAcousticModel) -> None:
    recordings = [recording(0.5), recording(0.8, seed=1)]
    peer = replace(PEERS["tent"], steps=2, learning_rate=0.05)
    together = Transcriber(tiny, ttt_options=peer, batch_size=2).transcribe_samples(recordings)
    plain = Transcriber(tiny).transcribe_samples(recordings)
    for samples, transcript, before in zip(recordings, together, plain, strict=True):
        adaptation = adapt_with_peer(tiny, tiny.prepare([samples]), peer)
        (decoded,) = [GreedyDecoder(tiny.vocabulary).decode(torch.log_softmax(row, -1)) for row in adaptation.logits]
        assert transcript.text == decoded.text != before.text
        assert transcript.ttt_losses == pytest.approx(adaptation.losses[:, 0].tolist())


EPISODIC = [
    {"loss_type": "entropy", "parameters": "both"},
    {"loss_type": "entropy", "steps": 2, "unadapted_share": 0.5},
    {"loss_type": "entropy_mcc", "skip_entropy": 1.75},
    {"loss_type": "masked_prediction", "max_seconds": 0.6},
]


@pytest.mark.parametrize("options", EPISODIC, ids=str)
def test_order_and_neighbours_change_no_transcript(decisive: HybridAcousticModel, options: dict) -> None:
    recordings = [recording(seconds, seed) for seed, seconds in enumerate([0.5, 1.1, 0.9, 0.5])]
    transcriber = Transcriber(decisive, ttt_options=AdaptationOptions(**options), batch_size=2)
    expected = transcriber.transcribe_samples(recordings)
    assert len({transcript.text for transcript in expected}) == 4
    assert any(transcript.is_adapted for transcript in expected)
    assert_same(transcriber.transcribe_samples(recordings[::-1]), expected[::-1])
    assert_same(transcriber.recognize([recordings[0], recordings[3]]), [expected[0], expected[3]])
    assert_same(transcriber.recognize(recordings), expected)


STREAM = AdaptationOptions(mode="continual", loss_type="entropy", parameters="both", learning_rate=0.05)


def log_probs_of_stream(
    model: AcousticModel, recordings: list[np.ndarray], options: AdaptationOptions = STREAM
) -> list[torch.Tensor]:
    """What the recordings should be recognised as: each adapted to from the weights of the one before it."""
    start: Weights | None = None
    learned: Weights | None = None
    log_probs = []
    for samples in recordings:
        adaptation = adapt(model, model.prepare([samples]), options, start)
        assert adaptation.is_adapted.all()
        learned = learned or adaptation.start
        start = {
            name: torch.lerp(weight, learned[name], options.stream_decay) for name, weight in adaptation.weights.items()
        }
        log_probs.append(torch.log_softmax(adaptation.logits[0], dim=-1))
    return log_probs


def assert_heard(decoder: KeepingDecoder, expected: list[torch.Tensor]) -> None:
    assert len(decoder.log_probs) == len(expected)
    for heard, wanted in zip(decoder.log_probs, expected, strict=True):
        torch.testing.assert_close(heard, wanted, rtol=0, atol=1e-4)


@pytest.fixture
def stream() -> list[np.ndarray]:
    return [recording(seconds, seed) for seed, seconds in enumerate([0.4, 0.7, 0.5])]


def test_a_stream_goes_on_from_what_was_adapted_before_it(
    decisive: HybridAcousticModel, stream: list[np.ndarray]
) -> None:
    expected = log_probs_of_stream(decisive, stream)
    (fresh,) = log_probs_of_stream(decisive, stream[1:2])
    assert (expected[1] - fresh).abs().max() > 0.1
    parameters = {name: parameter.clone() for name, parameter in decisive.model.named_parameters()}

    at_once, one_by_one = KeepingDecoder(), KeepingDecoder()
    transcripts = Transcriber(decisive, decoder=at_once, ttt_options=STREAM).transcribe_samples(stream)
    assert_heard(at_once, expected)
    assert [transcript.duration_seconds for transcript in transcripts] == [0.4, 0.7, 0.5]
    assert [transcript.text for transcript in transcripts] == [f"N{len(row)}" for row in expected]
    transcriber = Transcriber(decisive, decoder=one_by_one, ttt_options=STREAM)
    for samples in stream:
        transcriber.recognize([samples])
    assert_heard(one_by_one, expected)
    assert all(torch.equal(parameter, parameters[name]) for name, parameter in decisive.model.named_parameters())


def test_a_stream_of_files_goes_on_past_a_bad_one_and_past_silence(
    decisive: HybridAcousticModel, stream: list[np.ndarray], recordings_dir: Path, tmp_path: Path
) -> None:
    names = ["second.wav", "first.wav"]
    for name, samples in zip(names, stream, strict=False):
        soundfile.write(tmp_path / name, samples, SAMPLING_RATE, subtype="FLOAT")
    paths = [tmp_path / names[0], recordings_dir / "corrupt.wav", recordings_dir / "silence.wav", tmp_path / names[1]]
    decoder = KeepingDecoder()
    results = list(Transcriber(decisive, decoder=decoder, ttt_options=STREAM).transcribe_files(paths))
    assert [result.path for result in results] == paths
    assert [result.error is None for result in results] == [True, False, True, True]
    assert_heard(decoder, log_probs_of_stream(decisive, stream[:2]))


def test_a_stream_of_any_model_goes_on(foreign: HuggingFaceAcousticModel, stream: list[np.ndarray]) -> None:
    options = replace(STREAM, parameters="norms", front_end_step=0.05)
    decoder = KeepingDecoder()
    Transcriber(foreign, decoder=decoder, ttt_options=options).transcribe_samples(stream)
    expected = log_probs_of_stream(foreign, stream, options)
    assert_heard(decoder, expected)
    (fresh,) = log_probs_of_stream(foreign, stream[1:2], options)
    assert (expected[1] - fresh).abs().max() > 0.1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_stream_forgets_a_share_of_what_it_learned(
    decisive: HybridAcousticModel, stream: list[np.ndarray], share: float
) -> None:
    options = replace(STREAM, stream_decay=0.5, unadapted_share=share)
    decoder = KeepingDecoder()
    Transcriber(decisive, decoder=decoder, ttt_options=options).transcribe_samples(stream)
    expected = log_probs_of_stream(decisive, stream, options)
    assert_heard(decoder, expected)
    (fresh,) = log_probs_of_stream(decisive, stream[2:], options)
    unforgotten = log_probs_of_stream(decisive, stream, replace(options, stream_decay=0.0))
    for other in (fresh, unforgotten[2]):
        assert (expected[2] - other).abs().max() > 0.01


def test_a_stream_can_answer_before_it_learns(decisive: HybridAcousticModel, stream: list[np.ndarray]) -> None:
    options = replace(STREAM, unadapted_share=1.0)
    decoder = KeepingDecoder()
    Transcriber(decisive, decoder=decoder, ttt_options=options).transcribe_samples(stream[:1])
    plain = decisive.log_probs(*decisive.recognize(decisive.prepare(stream[:1])))
    assert_heard(decoder, plain)


def test_a_stream_can_begin_anew(decisive: HybridAcousticModel, stream: list[np.ndarray]) -> None:
    decoder = KeepingDecoder()
    transcriber = Transcriber(decisive, decoder=decoder, ttt_options=STREAM)
    transcriber.transcribe_samples(stream[:2])
    transcriber.reset_stream()
    transcriber.transcribe_samples(stream[1:])
    expected = log_probs_of_stream(decisive, stream[:2])
    assert_heard(decoder, expected + log_probs_of_stream(decisive, stream[1:]))


@pytest.mark.parametrize("reset_every", [1, 2, 3])
def test_a_stream_begins_anew_after_so_many(
    decisive: HybridAcousticModel, stream: list[np.ndarray], reset_every: int
) -> None:
    decoder = KeepingDecoder()
    options = replace(STREAM, reset_every=reset_every)
    recordings = [*stream, *stream[:2]]
    Transcriber(decisive, decoder=decoder, ttt_options=options).transcribe_samples(recordings)
    expected = []
    for first in range(0, len(recordings), reset_every):
        expected += log_probs_of_stream(decisive, recordings[first : first + reset_every])
    assert_heard(decoder, expected)


def test_what_a_gate_stops_hands_on_the_weights_it_got(decisive: HybridAcousticModel, stream: list[np.ndarray]) -> None:
    transcriber = Transcriber(decisive, decoder=KeepingDecoder(), ttt_options=STREAM)
    transcriber.transcribe_samples(stream[:1])
    transcriber.ttt_options = replace(STREAM, skip_entropy=100.0)
    (skipped,) = transcriber.transcribe_samples(stream[2:])
    assert not skipped.is_adapted
    transcriber.ttt_options = STREAM
    transcriber.transcribe_samples(stream[1:2])
    first, second = log_probs_of_stream(decisive, stream[:2])
    assert_heard(transcriber.decoder, [first, transcriber.decoder.log_probs[1], second])


def test_a_stream_is_recognised_one_by_one(tiny: HybridAcousticModel) -> None:
    with pytest.raises(UserError, match="batch size 2: a stream is recognised one by one; give 1, or mode 'episodic'"):
        Transcriber(tiny, ttt_options=STREAM, batch_size=2)
    assert Transcriber(tiny, ttt_options=replace(STREAM, mode="episodic"), batch_size=2).batch_size == 2


def test_a_bare_path_is_one_file(tiny: HybridAcousticModel, recordings_dir: Path) -> None:
    transcriber = Transcriber(tiny)
    path = recordings_dir / "mono.wav"
    (expected,) = transcriber.transcribe_files([path])
    assert expected.transcript is not None
    assert list(transcriber.transcribe_files(path)) == list(transcriber.transcribe_files(str(path))) == [expected]


def test_integers_and_tensors_and_stereo_sound_like_floats(tiny: HybridAcousticModel) -> None:
    samples = (recording(1.0) * 32767).astype(np.int16)
    floats = samples.astype(np.float32) / 32768
    transcriber = Transcriber(tiny)
    (expected,) = transcriber.transcribe_samples([floats])
    for same in (samples, torch.tensor(floats), np.stack([floats, floats], axis=1), floats.tolist()):
        assert transcriber.transcribe_samples([same]) == [expected]


def test_a_damaged_file_has_a_partial_transcript_and_its_warning(
    tiny: HybridAcousticModel, recordings_dir: Path, tmp_path: Path
) -> None:
    content = (recordings_dir / "mono.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: len(content) // 2])
    transcriber = Transcriber(tiny)
    (result,) = transcriber.transcribe_files(tmp_path / "cut.wav")
    assert result.is_partial
    assert result.transcript is not None
    assert result.transcript.duration_seconds == pytest.approx(0.65, abs=0.01)
    assert result.warnings == (f"{tmp_path / 'cut.wav'}: damaged or cut after 0.6 s; the rest is missing",)
    (refused,) = transcriber.transcribe_files(tmp_path / "cut.wav", strict=True)
    assert refused.transcript is None
    assert "damaged or cut after 0.6 s" in str(refused.error)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_running_out_of_memory_is_one_line(
    tiny: HybridAcousticModel, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def encode(*_: object) -> None:
        raise error

    monkeypatch.setattr(tiny.model, "encode", encode)
    with pytest.raises(UserError, match="out of memory on cpu with batch size 1 .*; lower --batch_size"):
        Transcriber(tiny).transcribe_samples([recording(1.0)])


def test_another_runtime_error_is_not_taken_for_it(tiny: HybridAcousticModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(*_: object) -> None:
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(tiny.model, "encode", encode)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        Transcriber(tiny).transcribe_samples([recording(1.0)])


class TestALanguageModelFollows:
    def test_so_many_steps_are_taken_as_the_options_say_for_it(self, tiny: HybridAcousticModel) -> None:
        decoder = LengthDecoder()
        options = AdaptationOptions(loss_type="entropy", steps=2, steps_with_lm=3)
        num_steps = []
        for decoder.uses_language_model in (False, True):
            (transcript,) = Transcriber(tiny, decoder=decoder, ttt_options=options).recognize([recording(0.5)])
            num_steps.append(len(transcript.ttt_losses))
        assert num_steps == [2, 3]

    def test_the_decoder_teaches_only_then(self, decisive: HybridAcousticModel) -> None:
        decoder = LengthDecoder()
        options = AdaptationOptions(loss_type="lm", parameters="both", learning_rate=0.1)
        with pytest.raises(UserError, match="beam size of 50"):
            Transcriber(decisive, decoder=decoder, ttt_options=options).recognize([recording(0.5)])
        decoder.uses_language_model = True
        (transcript,) = Transcriber(decisive, decoder=decoder, ttt_options=options).recognize([recording(0.5)])
        assert transcript.is_adapted  # the lesson is N, the letter that the vocabulary has of it


def test_emissions_are_kept_on_request_one_a_segment(tiny: HybridAcousticModel) -> None:
    decoder = KeepingDecoder()
    samples = recording(2.5)
    (transcript,) = Transcriber(tiny, decoder=decoder, chunk_seconds=1, keep_emissions=True).transcribe_samples(
        [samples]
    )
    assert len(transcript.emissions) == len(decoder.log_probs) > 1
    for kept, decoded in zip(transcript.emissions, decoder.log_probs, strict=True):
        np.testing.assert_array_equal(kept, decoded.numpy())
    (without,) = Transcriber(tiny, decoder=decoder, chunk_seconds=1).transcribe_samples([samples])
    assert without.emissions == []
