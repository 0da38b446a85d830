"""Folders of other CTC models."""

import json
from pathlib import Path

import pytest
import torch
from lact_asr_model.evaluation.hugging_face import is_other_model, load_other_model
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2ForCTC

from lact_asr_model.decoding.greedy import greedy_decode
from lact_asr_model.errors import UserError


def test_other_models_are_told_from_ours(checkpoint_dir: Path, wav2vec2_dir: Path, tmp_path: Path) -> None:
    assert is_other_model(str(wav2vec2_dir))
    assert not is_other_model(str(checkpoint_dir))
    assert not is_other_model(str(tmp_path / "nowhere"))
    assert not is_other_model(None)


def test_a_folder_is_loaded(wav2vec2: Wav2Vec2ForCTC, wav2vec2_dir: Path) -> None:
    model, feature_extractor, vocabulary = load_other_model(str(wav2vec2_dir))
    assert not model.training
    assert torch.equal(model.lm_head.weight, wav2vec2.lm_head.weight)
    assert feature_extractor.do_normalize
    assert vocabulary[:5] == ["<pad>", "<unk>", "|", "'", "A"]


def test_the_names_of_blank_and_word_separator_are_the_tokenizers_own(wav2vec2_dir: Path, tmp_path: Path) -> None:
    symbols = ["_", "a", "b", "[PAD]", "[UNK]"] + [f"x{index}" for index in range(25)]
    (tmp_path / "vocab.json").write_text(json.dumps({symbol: index for index, symbol in enumerate(symbols)}))
    tokenizer = Wav2Vec2CTCTokenizer(
        str(tmp_path / "vocab.json"), pad_token="[PAD]", unk_token="[UNK]", word_delimiter_token="_"
    )
    tokenizer.save_pretrained(wav2vec2_dir)
    config_path = wav2vec2_dir / "config.json"
    config_path.write_text(json.dumps(json.loads(config_path.read_text()) | {"pad_token_id": 3}))
    _, _, vocabulary = load_other_model(str(wav2vec2_dir))
    path = [1, 1, 3, 1, 4, 0, 2, 3]  # a a blank a unknown space b blank
    log_probs = torch.nn.functional.one_hot(torch.tensor(path), len(vocabulary)).float().log_softmax(dim=-1)
    assert greedy_decode(log_probs, vocabulary).text == "aa b"


@pytest.mark.parametrize("missing", ["vocab.json", "model.safetensors"])
def test_an_incomplete_folder_is_one_clear_error(wav2vec2_dir: Path, missing: str) -> None:
    (wav2vec2_dir / missing).unlink()
    with pytest.raises(UserError, match="cannot be loaded as a CTC model"):
        load_other_model(str(wav2vec2_dir))


def test_another_sampling_rate_is_refused(wav2vec2_dir: Path) -> None:
    path = wav2vec2_dir / "processor_config.json"
    fields = json.loads(path.read_text())
    fields["feature_extractor"]["sampling_rate"] = 8000
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match="does not take audio samples at 16000 Hz"):
        load_other_model(str(wav2vec2_dir))
