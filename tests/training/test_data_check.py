"""What is looked at before training: what is left out, listed, refused, and not looked at twice."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lact_asr_model.data.utterance import Utterance
from lact_asr_model.errors import UserError
from lact_asr_model.training import data_check
from lact_asr_model.training.data_check import CACHE_NAME, REPORT_NAME, DataCheck, seconds_to_the_end


def write_noise(path: Path, seconds: float = 2.0) -> Path:
    samples = np.random.default_rng(0).normal(scale=0.1, size=int(seconds * 16000))
    soundfile.write(path, samples, 16000)
    return path


def cut(path: Path, share: float = 0.9) -> Path:
    """A copy without its end."""
    content = path.read_bytes()
    copy = path.with_name(f"cut{path.suffix}")
    copy.write_bytes(content[: int(share * len(content))])
    return copy


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".wav"])
def test_a_cut_file_is_found_without_decoding_it(tmp_path: Path, suffix: str) -> None:
    whole = write_noise(tmp_path / f"whole{suffix}")
    assert seconds_to_the_end(whole) == pytest.approx(2.0, abs=0.1)
    try:
        seconds = seconds_to_the_end(cut(whole))
    except UserError as error:
        assert str(error).startswith(f"{tmp_path}/cut{suffix}: the file is cut short")
    else:  # libsndfile corrects the header of a WAV by the size of the file
        assert suffix == ".wav" and seconds == pytest.approx(1.8, abs=0.01)


@pytest.mark.parametrize("content", [b"", b"RIFF not really", b"\0" * 1000])
def test_what_is_no_recording_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.wav").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.wav: ") as caught:
        seconds_to_the_end(tmp_path / "bad.wav")
    assert "\n" not in str(caught.value)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """train.jsonl: 10 good items and 4 bad ones, each in another way; good.jsonl: the good ones."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(10):
        write_noise(folder / f"{number}.flac", seconds=1 + number / 10)
    cut(write_noise(folder / "9.flac"))
    good = [{"audio_filepath": f"{number}.flac", "text": "A", "duration": 77} for number in range(10)]
    bad = [
        {"audio_filepath": "cut.flac", "text": "A", "duration": 2},
        {"audio_filepath": "0.flac"},
        {"audio_filepath": "0.flac", "text": "42", "id": "digits"},
        {"audio_filepath": "gone.flac", "text": "A"},
    ]
    mixed = [*good[:5], *bad, *good[5:]]
    (folder / "train.jsonl").write_text("".join(json.dumps(item) + "\n" for item in mixed))
    (folder / "good.jsonl").write_text("".join(json.dumps(item) + "\n" for item in good))
    return folder


Read = Callable[..., tuple[DataCheck, list[Utterance]]]


@pytest.fixture
def read(data_dir: Path, tmp_path: Path) -> Read:
    def read(name: str = "train.jsonl", max_bad_share: float = 0.5, writes: bool = True):
        check = DataCheck(tmp_path / "out", max_bad_share=max_bad_share, spell_out=None, writes=writes)
        return check, check.read("--train_subset", name, data_dir)

    return read


def test_bad_items_are_left_out_listed_and_told(read: Read, tmp_path: Path) -> None:
    check, utterances = read()
    assert [utterance.audio_path.stem for utterance in utterances] == list("0123456789")
    assert utterances[3].duration_seconds == pytest.approx(1.3)  # the header knows, the manifest did not
    items = [json.loads(line) for line in (tmp_path / "out" / REPORT_NAME).read_text().splitlines()]
    reasons = [item["reason"] for item in items]
    assert {item["source"] for item in items} == {"--train_subset train.jsonl"}
    for part in ("cut.flac: the file is cut short", "0: its transcript has no", "digits: its", "gone.flac"):
        assert sum(part in reason for reason in reasons) == 1, part
    first, *examples = check.describe()
    assert first.startswith(f"left out: 4 bad items, all listed in {tmp_path}/out/{REPORT_NAME}")
    assert len(examples) == 3


def test_too_many_of_them_are_an_error_that_names_the_list(read: Read, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(max_bad_share=0.25)
    message = str(caught.value)
    assert message.startswith("--train_subset train.jsonl: 4 of 14 items are bad, such as ")
    assert str(tmp_path / "out" / REPORT_NAME) in message and "--max_bad_share 0.25" in message
    assert len((tmp_path / "out" / REPORT_NAME).read_text().splitlines()) == 4
    assert read(max_bad_share=4 / 14)[1]


def test_without_bad_items_there_is_no_list_and_nothing_to_say(read: Read, tmp_path: Path) -> None:
    read()
    check, utterances = read("good.jsonl", max_bad_share=0.0)
    assert len(utterances) == 10
    assert check.describe() == []
    assert not (tmp_path / "out" / REPORT_NAME).exists()


def test_a_set_without_any_good_item_is_an_error_at_any_share(read: Read, data_dir: Path) -> None:
    (data_dir / "none.jsonl").write_text('{"audio_filepath": "0.flac"}\n')
    with pytest.raises(UserError, match=r"1 of 1 items are bad.* lists them.; correct them$"):
        read("none.jsonl", max_bad_share=1.0)


def test_recordings_are_looked_at_once_until_they_change(
    read: Read, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []

    def recording(path: Path) -> float:
        looked_at.append(path.name)
        return seconds_to_the_end(path)

    monkeypatch.setattr(data_check, "seconds_to_the_end", recording)
    _, first = read()
    assert sorted(looked_at) == [*(f"{number}.flac" for number in range(10)), "cut.flac"]
    looked_at.clear()
    check, again = read()
    assert (looked_at, again, len(check.bad_items)) == ([], first, 4)

    write_noise(data_dir / "cut.flac")
    os.utime(data_dir / "4.flac", ns=(0, 0))
    check, repaired = read()
    assert sorted(looked_at) == ["4.flac", "cut.flac"]
    assert len(repaired) == 11

    (tmp_path / "out" / CACHE_NAME).write_text("{")
    looked_at.clear()
    assert read()[1] == repaired
    assert len(looked_at) == 11


def test_other_processes_read_the_same_and_write_nothing(read: Read, tmp_path: Path) -> None:
    _, utterances = read(writes=False)
    assert len(utterances) == 10
    assert not (tmp_path / "out").exists()
