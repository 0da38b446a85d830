"""Data sets as people hand them in: segments, bad validation items, digits, and training that goes on elsewhere."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lact_asr_model.commands import train as train_command
from lact_asr_model.commands import transcribe

TINY_CONFIG = Path(__file__).parents[2] / "configs" / "tiny_asr_config.json"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: exit code, stdout, stderr."""

    def run(command: Callable[[list[str]], None], *arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = 0
        try:
            command([str(argument) for argument in arguments])
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 1
        return code, *capsys.readouterr()

    return run


def speech(num_characters: int) -> np.ndarray:
    """Tones of another pitch every 0.12 s, in some noise."""
    rng = np.random.default_rng(5)
    time_seconds = np.arange(1920) / 16000
    tones = [np.sin(2 * np.pi * pitch * time_seconds) for pitch in rng.uniform(200, 3000, num_characters)]
    return np.concatenate(tones) * 0.3 + rng.normal(scale=0.003, size=1920 * num_characters)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A recording of 3.36 s as b.mp3, its first 9 tenths as cut.mp3, and 1 s from 0 s and from 1 s as WAV."""
    samples = speech(28)
    soundfile.write(tmp_path / "b.mp3", samples, 16000)
    content = (tmp_path / "b.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(content[: len(content) * 9 // 10])
    decoded, _ = soundfile.read(tmp_path / "b.mp3", dtype="float32")
    for start in (0, 1):
        soundfile.write(tmp_path / f"from{start}.wav", decoded[start * 16000 :][:16000], 16000, subtype="FLOAT")
    return tmp_path


def write_lines(path: Path, *items: dict[str, object]) -> None:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_case_10_a_segment_of_a_manifest_is_recognised_and_scored_alone(
    data_dir: Path, checkpoint_dir: Path, run: Run, start: int, suffix: str
) -> None:
    segment = {"audio_filepath": "b.mp3", "offset": start, "duration": 1, "text": "IT IS LIKE A"}
    write_lines(data_dir / f"segment.{suffix}", segment)
    write_lines(data_dir / "alone.jsonl", {"audio_filepath": f"from{start}.wav", "text": "IT IS LIKE A"})
    records = []
    for name in (f"segment.{suffix}", "alone.jsonl"):
        output = data_dir / f"{name}.out"
        options = ("--checkpoint", checkpoint_dir, "--data_dir", data_dir, "--subset", name, "--output", output)
        assert run(transcribe.main, *options)[0] == 0
        records.append(json.loads(output.read_text()))
    of_segment, alone = records
    assert of_segment["duration"] == alone["duration"] == 1.0
    assert of_segment["hyp"] == alone["hyp"] != ""
    assert of_segment["ref"] == "IT IS LIKE A"


def train(run: Run, data_dir: Path, *arguments: object) -> tuple[int, str, str]:
    defaults = {
        **{"config_path": TINY_CONFIG, "data_dir": data_dir, "train_subset": "train.jsonl", "warmup_steps": 2},
        **{"pretrained_encoder": "none", "num_workers": 0, "log_every": 1},
    }
    flags = [part for name, value in defaults.items() for part in (f"--{name}", value)]
    return run(train_command.main, *flags, *arguments)


GOOD = {"audio_filepath": "b.mp3", "text": "IT IS LIKE A"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"audio_filepath": "b.mp3"}, "its transcript has no letters"),
        ({"audio_filepath": "cut.mp3", "text": "IT IS LIKE A", "duration": 3}, "cut.mp3: the file is cut short"),
        ({"audio_filepath": "gone.mp3", "text": "IT"}, "no audio file"),
    ],
)
@pytest.mark.parametrize("subset", ["val_subset", "test_subset"])
def test_case_14_bad_validation_data_is_found_before_the_first_step(
    data_dir: Path, run: Run, bad: dict[str, object], reason: str, subset: str
) -> None:
    write_lines(data_dir / "train.jsonl", GOOD)
    write_lines(data_dir / "bad.jsonl", *[GOOD] * 3, bad)
    output_dir = data_dir / "out"
    sizes = ("--batch_size", 1, "--max_steps", 4, "--output_dir", output_dir, "--val_subset", "train.jsonl")
    code, printed, errors = train(run, data_dir, *sizes, f"--{subset}", "bad.jsonl")
    assert code == 2
    assert "step 1/" not in printed
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert f"--{subset} bad.jsonl: 1 of 4 items are bad" in line and reason in line
    assert str(output_dir / "bad_items.jsonl") in line
    (item,) = map(json.loads, (output_dir / "bad_items.jsonl").read_text().splitlines())
    assert reason in item["reason"]

    code, printed, errors = train(run, data_dir, *sizes, f"--{subset}", "bad.jsonl", "--max_bad_share", 0.25)
    assert code == 0, errors
    before, _, after = printed.partition("step 1/4")
    assert "left out: 1 bad items" in before and reason in before and after
    results = json.loads((output_dir / "results.json").read_text())
    assert results[subset.replace("_subset", "").replace("val", "validation")]["num_utterances"] == 3


def test_case_17_digits_and_symbols_of_references_are_counted_shown_and_spelled_out(
    data_dir: Path, checkpoint_dir: Path, run: Run
) -> None:
    write_lines(
        data_dir / "digits.jsonl",
        {"audio_filepath": "b.mp3", "id": "1", "text": "He was born in 1984, paid $5 (i.e. 50%)"},
        {"audio_filepath": "b.mp3", "id": "2", "text": "日本"},
    )
    output = data_dir / "out.jsonl"
    options = ("--checkpoint", checkpoint_dir, "--data_dir", data_dir, "--subset", "digits.jsonl", "--output", output)
    code, _, errors = run(transcribe.main, *options)
    assert code == 0
    (line,) = [line for line in errors.splitlines() if line.startswith("warning: ")]
    assert "digits.jsonl: 4 words in 2 of 2 transcripts lose digits, symbols or letters" in line
    assert "'1984,', '$5', '50%)', '日本'" in line and "--normalize" in line

    pytest.importorskip("inflect", reason="the normalize extra is not installed")
    output.unlink()
    code, _, errors = run(transcribe.main, *options, "--normalize")
    assert code == 0
    references = [json.loads(line)["ref"] for line in output.read_text().splitlines()]
    assert references == ["HE WAS BORN IN NINETEEN EIGHTY FOUR PAID FIVE DOLLARS I E FIFTY PERCENT", ""]
    assert "1 words in 1 of 2 transcripts" in errors and "add --normalize" not in errors


def test_case_25_a_training_goes_on_with_a_smaller_batch_and_more_accumulation(data_dir: Path, run: Run) -> None:
    write_lines(data_dir / "train.jsonl", *({**GOOD, "id": str(number)} for number in range(2)))
    common = ("--val_subset", "train.jsonl", "--output_dir", data_dir / "out")
    large = ("--batch_size", 2, "--gradient_accumulation_steps", 1)
    small = ("--batch_size", 1, "--gradient_accumulation_steps", 2)
    other = ("--batch_size", 1, "--gradient_accumulation_steps", 1)
    assert train(run, data_dir, *common, *large, "--max_steps", 6)[0] == 0
    code, printed, errors = train(run, data_dir, *common, *small, "--max_steps", 9, "--resume")
    assert code == 0, errors
    assert "going on from step 6" in printed and "step 9/9  epoch 9.00" in printed
    code, _, errors = train(run, data_dir, *common, *other, "--max_steps", 12, "--resume")
    assert code == 2
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "a step of this training has 2 = --batch_size 2" in line and "not 1 = --batch_size 1" in line
