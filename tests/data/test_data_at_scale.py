"""Shards, Lhotse cuts and data sets of Hugging Face hold the utterances of the LibriSpeech folder they are made of."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lact_asr_model.audio import EmbeddedAudio, load_audio
from lact_asr_model.commands import evaluate, pack_shards, transcribe
from lact_asr_model.data.sources import read_references, read_utterances
from lact_asr_model.data.utterance import Reading, Utterance, load_samples
from lact_asr_model.errors import UserError
from lact_asr_model.training.arguments import TrainingArguments
from lact_asr_model.training.data_check import seconds_to_the_end
from lact_asr_model.training.trainer import train

datasets = pytest.importorskip("datasets")
lhotse = pytest.importorskip("lhotse")
webdataset = pytest.importorskip("webdataset")

REPOSITORY = Path(__file__).parents[2]
RECORDINGS = REPOSITORY / "lact_asr_model" / "bundled_recordings"


def rows_of(utterances: list[Utterance]) -> "datasets.Dataset":
    """With the bytes of the files in it, as the hub's data sets have them."""
    rows = {
        "id": [utterance.id for utterance in utterances],
        "audio": [{"bytes": u.audio_path.read_bytes(), "path": u.audio_path.name} for u in utterances],
        "sentence": [utterance.text for utterance in utterances],
        "speaker_id": [int(utterance.speaker or 0) for utterance in utterances],
    }
    return datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio(decode=False))


def recording_of(path: Path) -> "lhotse.Recording":
    return lhotse.Recording.from_file(path, recording_id=path.stem)


def cut_of(utterance: Utterance, **changes: object) -> "lhotse.MonoCut":
    recording = recording_of(Path(utterance.audio_path))
    said = lhotse.SupervisionSegment(
        "s", recording.id, 0, recording.duration, text=utterance.text, speaker=utterance.speaker
    )
    fields = {"id": utterance.id, "start": 0.0, "duration": recording.duration, "channel": 0, "supervisions": [said]}
    return lhotse.MonoCut(**{**fields, "recording": recording, **changes})


def write_cuts(path: Path, *cuts: object) -> str:
    lhotse.CutSet.from_cuts(cuts).to_file(path)
    return str(path)


@pytest.fixture(scope="module")
def utterances(librispeech_dir: Path) -> list[Utterance]:
    return read_utterances("train-tiny", librispeech_dir)


@pytest.fixture(scope="module")
def sources(librispeech_dir: Path, utterances: list[Utterance], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `shards`, `saved`, `parquet` and `cuts.jsonl.gz` of the same seven utterances."""
    folder = tmp_path_factory.mktemp("sources")
    pack_shards.main(
        f"--data_dir {librispeech_dir} --subset train-tiny --output_dir {folder / 'shards'} --shard_mb 0.05".split()
    )
    rows = rows_of(utterances)
    datasets.DatasetDict({"train": rows, "dev": rows.select([0])}).save_to_disk(folder / "saved")
    (folder / "parquet" / "data").mkdir(parents=True)
    rows.to_parquet(folder / "parquet" / "data" / "train-00000-of-00001.parquet")
    write_cuts(folder / "cuts.jsonl.gz", *map(cut_of, utterances))
    write_cuts(folder / "cuts.jsonl", *map(cut_of, utterances))
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


SOURCES = ["shards", "saved:train", "saved/train", "parquet", "parquet:train", "cuts.jsonl.gz", "cuts.jsonl"]


@pytest.mark.parametrize("name", [*SOURCES, "shards/shard-{000000..000002}.tar"])
def test_every_format_gives_the_utterances_of_the_folder(
    name: str, sources: Path, utterances: list[Utterance], tmp_path: Path
) -> None:
    found = read_utterances(name, sources, reading=Reading(measure=seconds_to_the_end))
    if "{" in name:
        assert 2 < len(found) <= 7 and len(list((sources / "shards").glob("*.tar"))) >= 3
    else:
        assert len(found) == 7
    for expected, actual in zip(utterances, found, strict=False):
        assert (actual.id, actual.text, actual.speaker) == (expected.id, expected.text, expected.speaker)
        assert actual.duration_seconds == pytest.approx(expected.duration_seconds, abs=1e-6)
        assert np.array_equal(load_samples(actual), load_samples(expected))
        assert actual.audio_path.read_bytes() == expected.audio_path.read_bytes()


def test_they_are_joined_with_others(sources: Path, librispeech_dir: Path) -> None:
    names = ["dev-tiny", *(str(sources / name) for name in ("shards", "saved:dev", "cuts.jsonl"))]
    assert len(read_utterances("+".join(names), librispeech_dir)) == 3 + 7 + 1 + 7


def test_evaluation_transcription_and_training_take_them_all(
    sources: Path, checkpoint_dir: Path, tmp_path: Path
) -> None:
    evaluate.main(
        (
            f"--checkpoint {checkpoint_dir} --data_dir {sources} --subset shards --methods none --conditions clean "
            "--extra_subsets saved=saved:train,parquet=parquet,cuts=cuts.jsonl.gz "
            f"--output_dir {tmp_path / 'evaluation'}"
        ).split()
    )
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())["results"]
    assert {row["condition"] for row in results} == {"clean", "saved", "parquet", "cuts"}
    assert len({row["wer"] for row in results}) == 1
    transcribe.main(
        f"--checkpoint {checkpoint_dir} --data_dir {sources} --subset shards+saved:dev "
        f"--output_dir {tmp_path / 'transcripts'}".split()
    )
    assert len((tmp_path / "transcripts" / "transcripts.jsonl").read_text().splitlines()) == 8
    arguments = TrainingArguments(
        config_path=REPOSITORY / "configs" / "tiny_asr_config.json",
        data_dir=sources,
        train_subset="shards+saved:train+parquet+cuts.jsonl.gz",
        val_subset="saved:dev",
        output_dir=tmp_path / "training",
        batch_size=14,
        max_steps=2,
        warmup_steps=1,
        num_workers=1,
    )
    results = train(arguments)
    assert results["step"] == 2 and results["epoch"] == 1
    assert not results["bad_items"] and not results["skipped"]


def test_webdataset_reads_what_was_packed(sources: Path, utterances: list[Utterance]) -> None:
    shards = sorted(map(str, (sources / "shards").glob("*.tar")))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [json.loads(sample["json"])["text"] for sample in samples] == [utterance.text for utterance in utterances]
    for sample, utterance in zip(samples, utterances, strict=True):
        suffix = Path(utterance.audio_path).suffix[1:]
        assert sample[suffix] == utterance.audio_path.read_bytes()


def test_recordings_of_other_rates_and_formats_are_copied_as_they_are(tmp_path: Path) -> None:
    """MP3, and transcripts that are kept as they were written."""
    manifest = RECORDINGS / "manifest.jsonl"
    pack_shards.main(["--subset", str(manifest), "--output_dir", str(tmp_path / "shards")])
    expected, found = read_utterances(str(manifest)), read_utterances(str(tmp_path / "shards"))
    assert [utterance.audio_path.read_bytes() for utterance in found] == [
        utterance.audio_path.read_bytes() for utterance in expected
    ]
    assert [utterance.text for utterance in found] == [utterance.text for utterance in expected]
    (tmp_path / "one.jsonl").write_text(
        json.dumps({"audio_filepath": str(RECORDINGS / "1673-143397-0007.mp3"), "text": "Mr. Brown, 3 %"}) + "\n"
    )
    pack_shards.main(["--subset", str(tmp_path / "one.jsonl"), "--output_dir", str(tmp_path / "one")])
    (sample,) = webdataset.WebDataset(str(tmp_path / "one" / "shard-000000.tar"), shardshuffle=False)
    assert json.loads(sample["json"])["text"] == "Mr. Brown, 3 %"


def test_a_stretch_and_a_channel_are_cut_out(
    tmp_path: Path, utterances: list[Utterance], write_media: Callable[..., None]
) -> None:
    left, right = (3 * load_samples(utterance)[:8000] for utterance in utterances[:2])  # loud: FLAC must be exact
    write_media(tmp_path / "call.wav", np.stack([left, right]), 16000, "pcm_s16le")
    path = Path(utterances[3].audio_path)
    source = write_cuts(
        tmp_path / "cuts.jsonl",
        cut_of(utterances[3], start=0.25, duration=0.5),
        cut_of(utterances[1], id="call", recording=recording_of(tmp_path / "call.wav"), channel=1, duration=0.5),
    )
    pack_shards.main(["--subset", source, "--output_dir", str(tmp_path / "shards")])
    for name in (source, str(tmp_path / "shards")):
        stretch, channel = read_utterances(name)
        assert stretch.duration_seconds == 0.5
        assert np.array_equal(load_samples(stretch), load_audio(path)[4000:12000])
        assert np.array_equal(load_samples(channel), load_audio(tmp_path / "call.wav", channel=1))
        assert np.abs(load_samples(channel) - right).max() < 1e-3 < np.abs(right - left).max()
        assert isinstance(stretch.audio_path, EmbeddedAudio) == (name != source)


def test_supervisions_of_a_cut_are_one_transcript(tmp_path: Path, utterances: list[Utterance]) -> None:
    recording = recording_of(Path(utterances[0].audio_path))
    said = [
        lhotse.SupervisionSegment(str(start), recording.id, start, 0.1, text=text, speaker=speaker)
        for start, text, speaker in ((0.3, "second", "b"), (0.1, "first", "a"))
    ]
    source = write_cuts(tmp_path / "cuts.jsonl", cut_of(utterances[0], supervisions=said))
    (utterance,) = read_references(source)
    assert (utterance.text, utterance.speaker) == ("FIRST SECOND", None)


def test_a_column_of_paths(tmp_path: Path, utterances: list[Utterance]) -> None:
    rows = {"path": [str(utterance.audio_path) for utterance in utterances], "text": ["a"] * len(utterances)}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "saved")
    found = read_utterances(str(tmp_path / "saved"))
    assert [utterance.audio_path for utterance in found] == [utterance.audio_path for utterance in utterances]
    assert found[3].id == "0000003-1-10-0003"


BAD_ROWS: dict[str, tuple[Callable[["datasets.Dataset"], object], str]] = {
    "no text": (lambda rows: rows.remove_columns("sentence"), "no column for the text, only id, audio, speaker_id"),
    "no audio": (lambda rows: rows.remove_columns("audio"), "no column for the audio, only"),
    "null text": (lambda rows: set_first(rows, "sentence", None), "row 0: 1-10-0000.flac: has no transcript"),
    "null audio": (lambda rows: set_first(rows, "audio", None), "row 0 has no audio"),
    "no file": (
        lambda rows: rows.remove_columns("audio").add_column("audio", ["a.wav"] * len(rows)),
        "a.wav: no such file",
    ),
    "noise": (lambda rows: set_first(rows, "audio", {"bytes": b"abc", "path": "a"}), "not a readable audio file"),
    "splits": (lambda rows: datasets.DatasetDict({"a": rows, "b": rows}), "several splits; write one of :a, :b"),
}


def set_first(rows: "datasets.Dataset", column: str, value: object) -> "datasets.Dataset":
    columns = {name: rows.with_format(None)[name][:] for name in rows.column_names}
    columns[column] = [value, *columns[column][1:]]
    changed = datasets.Dataset.from_dict(columns)
    return changed.cast_column("audio", datasets.Audio(decode=False))


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_data_sets(kind: str, tmp_path: Path, utterances: list[Utterance]) -> None:
    change, expected = BAD_ROWS[kind]
    change(rows_of(utterances)).save_to_disk(tmp_path / "saved")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=expected):
        read_utterances(str(tmp_path / "saved"))


def test_a_split_that_is_not_there(sources: Path) -> None:
    with pytest.raises(UserError, match="no split 'test'; write one of :train, :dev behind its name"):
        read_utterances("saved:test", sources)
    with pytest.raises(UserError, match="has no splits; leave :dev out"):
        read_utterances("saved/train:dev", sources)


def test_a_damaged_data_set(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "parquet").mkdir()
    content = next((sources / "parquet" / "data").iterdir()).read_bytes()
    (tmp_path / "parquet" / "train.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="parquet: cannot be read"):
        read_utterances(str(tmp_path / "parquet"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"start": 0.5, "duration": 30.0}, "before the segment 1-10-0000 does at 30.50 s"),
        ({"supervisions": []}, "cut 1-10-0000 has no transcript"),
        ({"recording": None}, "is not of one audio file; write it with lhotse's CutSet.save_audios"),
    ],
)
def test_bad_cuts(changes: dict[str, object], expected: str, tmp_path: Path, utterances: list[Utterance]) -> None:
    source = write_cuts(tmp_path / "cuts.jsonl", cut_of(utterances[0], **changes))
    with pytest.raises(UserError, match=f"cuts.jsonl line 1: .*{expected}"):
        read_utterances(source)


def test_other_manifests_of_lhotse_and_damaged_ones(tmp_path: Path, sources: Path, utterances: list[Utterance]) -> None:
    first = cut_of(utterances[0])
    write_cuts(tmp_path / "mixed.jsonl.gz", first.mix(cut_of(utterances[1])))
    write_cuts(tmp_path / "faster.jsonl.gz", first.perturb_speed(1.1))
    lhotse.RecordingSet.from_recordings([first.recording]).to_file(tmp_path / "recordings.jsonl.gz")
    content = (sources / "cuts.jsonl.gz").read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(content[: len(content) // 2])
    for name, expected in (
        ("mixed", "line 1: is a MixedCut, not a stretch of a recording; .*save_audios"),
        ("faster", "line 1: cut .* changes its recording"),
        ("recordings", "line 1: is a Recording, .*from_manifests"),
        ("cut", "cut.jsonl.gz: cannot be read"),
        ("none", "none.jsonl.gz: cannot be read"),
    ):
        with pytest.raises(UserError, match=expected):
            read_utterances(str(tmp_path / f"{name}.jsonl.gz"))


def test_a_resampled_cut_is_read_as_it_is(tmp_path: Path, utterances: list[Utterance]) -> None:
    source = write_cuts(tmp_path / "cuts.jsonl", cut_of(utterances[0]).resample(8000))
    (utterance,) = read_utterances(source)
    assert np.array_equal(load_samples(utterance), load_samples(utterances[0]))
