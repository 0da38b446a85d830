from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from transformers import Wav2Vec2Processor

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.errors import UserError
from lact_asr_model.metrics import ErrorCounts
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.text import build_vocabulary, make_processor
from lact_asr_model.training.validation import ValidationResult, validate

Recogniser = tuple[HybridASRForCTC, Wav2Vec2Processor]


@pytest.fixture
def small_vocabulary_model(tiny_config: HybridASRConfig) -> Recogniser:
    processor = make_processor(build_vocabulary("ABCDEF"))
    tiny_config.vocab_size = len(processor.tokenizer)
    torch.manual_seed(1)
    return HybridASRForCTC(tiny_config), processor


def test_the_batches_do_not_change_the_result(librispeech_dir: Path, small_vocabulary_model: Recogniser) -> None:
    model, processor = small_vocabulary_model
    utterances = read_utterances("train-tiny", librispeech_dir)
    model.train()
    one_by_one, together = (
        validate(model, utterances, processor, Accelerator(cpu=True), batch_size=size) for size in (1, 7)
    )
    assert model.training
    assert one_by_one.transcripts == together.transcripts
    assert one_by_one.loss == pytest.approx(together.loss, rel=1e-4)
    assert [transcript["id"] for transcript in together.transcripts] == [utterance.id for utterance in utterances]
    assert [transcript["ref"] for transcript in together.transcripts] == [utterance.text for utterance in utterances]
    assert together.words.reference_length == sum(len(utterance.text.split()) for utterance in utterances)


def test_the_same_utterance_may_come_twice(librispeech_dir: Path, small_vocabulary_model: Recogniser) -> None:
    model, processor = small_vocabulary_model
    result = validate(
        model, read_utterances("dev-tiny+dev-tiny", librispeech_dir), processor, Accelerator(cpu=True), batch_size=4
    )
    assert len(result.transcripts) == 6
    assert result.transcripts[:3] == result.transcripts[3:]


def test_rates_are_those_of_the_corpus_not_means_over_utterances() -> None:
    counts = [ErrorCounts(substitutions=1, reference_length=1), ErrorCounts(reference_length=9)]
    result = ValidationResult(0.5, [{"id": "a"}, {"id": "b"}], counts, counts)
    summary = result.summary()
    assert summary["wer"] == pytest.approx(0.1)
    assert summary["words"] == {"substitutions": 1, "deletions": 0, "insertions": 0, "reference_length": 10}
    assert summary["wer_interval"][0] <= 0.1 <= summary["wer_interval"][1]
    assert "WER 10.00 % (1/10)" in result.describe()


def test_recordings_that_cannot_be_read_are_left_out_and_told(
    librispeech_dir: Path, small_vocabulary_model: Recogniser, tmp_path: Path
) -> None:
    model, processor = small_vocabulary_model
    (tmp_path / "bad.wav").write_bytes(b"RIFF not really")
    bad = Utterance("bad", tmp_path / "bad.wav", "A", 1.0)
    first, *others = read_utterances("dev-tiny", librispeech_dir)
    options = {"batch_size": 2, "num_workers": 0}
    result = validate(model, [first, bad, *others], processor, Accelerator(cpu=True), **options)
    expected = validate(model, [first, *others], processor, Accelerator(cpu=True), **options)
    assert result.transcripts == expected.transcripts
    assert result.words == expected.words
    assert [name for name, _ in result.skipped] == ["bad"] and expected.skipped == []
    with pytest.raises(UserError, match=r"validation: none of the recordings can be read, such as .*bad\.wav"):
        validate(model, [bad], processor, Accelerator(cpu=True), **options)
