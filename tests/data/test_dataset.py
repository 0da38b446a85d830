"""Items and their augmentation."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from torch.utils.data import DataLoader

from lact_asr_model.data.dataset import UtteranceDataset
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.errors import UserError
from lact_asr_model.text import build_vocabulary, make_processor

TOKENIZER = make_processor(build_vocabulary(["AB"])).tokenizer


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", np.full(400, number / 4), 16000)
    return [Utterance(str(number), tmp_path / f"{number}.wav", ("A", "A", "A B")[number], 0.025) for number in range(3)]


def jitter(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return samples + np.float32(rng.uniform())


def first_samples(dataset: UtteranceDataset, **loader_options: object) -> list[float]:
    loader = DataLoader(dataset, batch_size=None, **loader_options)
    return [float(item["samples"][0]) for item in loader]


def test_item(utterances: list[Utterance]) -> None:
    item = UtteranceDataset(utterances, TOKENIZER)[2]
    assert item["id"] == "2"
    assert item["labels"] == [TOKENIZER.convert_tokens_to_ids(token) for token in ["A", "|", "B"]]
    assert item["samples"].dtype == np.float32
    assert item["samples"].tolist() == [0.5] * 400


def test_several_indices_are_one_recording_with_pauses_and_one_transcript(utterances: list[Utterance]) -> None:
    item = UtteranceDataset(utterances, TOKENIZER)[(1, 2)]
    assert item["id"] == "1+2"
    a, separator, b = (TOKENIZER.convert_tokens_to_ids(token) for token in ("A", "|", "B"))
    assert item["labels"] == [a, separator, a, separator, b]
    samples = item["samples"]
    assert samples[:400].tolist() == [0.25] * 400 and samples[-400:].tolist() == [0.5] * 400
    assert len(samples) > 800 and not samples[400:-400].any()


def test_joined_recordings_are_corrupted_as_one_by_seed_epoch_and_indices_only(utterances: list[Utterance]) -> None:
    def item(seed: int, epoch: int, indices: tuple[int, ...]) -> list[float]:
        dataset = UtteranceDataset(utterances, TOKENIZER, jitter, seed=seed)
        dataset.set_epoch(epoch)
        return dataset[indices]["samples"].tolist()

    first = item(0, 0, (1, 2))
    assert first == item(0, 0, (1, 2))
    assert first[0] - 0.25 == pytest.approx(first[-1] - 0.5, abs=1e-6)  # one draw for the whole recording
    for other in (item(1, 0, (1, 2)), item(0, 1, (1, 2)), item(0, 0, (0, 2))):
        assert len(other) != len(first)  # pauses of its own
    assert item(0, 0, (1,)) == UtteranceDataset(utterances, TOKENIZER, jitter)[1]["samples"].tolist()


def test_augmentation_depends_on_seed_epoch_and_index_only(utterances: list[Utterance]) -> None:
    dataset = UtteranceDataset(utterances, TOKENIZER, jitter, seed=3)
    values = first_samples(dataset)
    assert [dataset[index]["samples"][0] for index in (2, 0, 1)] == [values[2], values[0], values[1]]
    offsets = {value - number / 4 for number, value in enumerate(values)}
    assert len(offsets) == 3
    assert first_samples(UtteranceDataset(utterances, TOKENIZER, jitter, seed=3)) == values
    assert first_samples(UtteranceDataset(utterances, TOKENIZER, jitter, seed=4)) != values
    dataset.set_epoch(1)
    assert first_samples(dataset) != values
    dataset.set_epoch(0)
    assert first_samples(dataset) == values


def test_persistent_workers_follow_the_epoch(utterances: list[Utterance]) -> None:
    dataset = UtteranceDataset(utterances, TOKENIZER, jitter)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        assert [float(item["samples"][0]) for item in loader] == first_samples(dataset)
    dataset.set_epoch(0)
    assert [float(item["samples"][0]) for item in loader] == first_samples(dataset)


def test_missing_transcript(utterances: list[Utterance], tmp_path: Path) -> None:
    unlabelled = [*utterances, Utterance("mute", tmp_path / "0.wav", None, 0.025)]
    with pytest.raises(UserError, match="mute: it has no transcript"):
        UtteranceDataset(unlabelled, TOKENIZER)
    assert [item["labels"] for item in UtteranceDataset(unlabelled, tokenizer=None)] == [[]] * 4


def test_a_bad_recording_is_an_error_or_left_out_of_its_item(utterances: list[Utterance], tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF not really")
    mixed = [*utterances, Utterance("bad", tmp_path / "bad.wav", "B B", 0.025)]
    with pytest.raises(UserError, match="bad.wav"):
        UtteranceDataset(mixed, TOKENIZER)[3]
    dataset = UtteranceDataset(mixed, TOKENIZER, jitter, skip_bad=True)
    alone, joined = dataset[3], dataset[(1, 3, 2)]
    assert (alone["samples"], alone["labels"], alone["id"]) == (None, [], "")
    for item in (alone, joined):
        ((name, reason),) = item["skipped"]
        assert name == "bad" and "bad.wav" in reason
    assert joined["id"] == "1+2"
    assert joined["labels"] == dataset[(1, 2)]["labels"]
    assert dataset[1]["skipped"] == []


def test_a_segment_is_loaded_without_the_rest(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.repeat([0.0, 0.25, 0.5], 16000), 16000)
    segment = Utterance("b", tmp_path / "long.wav", "B", 0.5, offset_seconds=1.25)
    assert UtteranceDataset([segment], TOKENIZER)[0]["samples"].tolist() == [0.25] * 8000
    nothing = Utterance("b", tmp_path / "long.wav", "B", 2e-5, offset_seconds=1.25)
    with pytest.raises(UserError, match="its segment is shorter than a sample"):
        UtteranceDataset([nothing], TOKENIZER)[0]
