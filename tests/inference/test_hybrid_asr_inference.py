import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.checkpoint_io import load_checkpoint, save_best_model
from lact_asr_model.commands.transcribe import main
from lact_asr_model.recognition.transcriber import Transcriber

REPOSITORY = Path(__file__).parents[2]
GOOD = ["mono.wav", "stereo_44khz.flac", "telephone_8khz.wav", "compressed.mp3"]
INAUDIBLE = ["short_10ms.wav", "silence.wav"]
BAD = {
    "empty.wav": "the file is empty",
    "no_samples.wav": "no samples",
    "nan.wav": "NaN",
    "corrupt.wav": "not a readable audio file",
    "missing.wav": "no such audio file",
}


def run(*arguments: object) -> int:
    """Run the command in this process; returns its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as exit:
        return exit.code
    return 0


@pytest.fixture
def expected(checkpoint_dir: Path, recordings_dir: Path) -> dict[str, str]:
    """What the model hears in each of the good and inaudible recordings."""
    results = Transcriber(load(checkpoint_dir)).transcribe_files(recordings_dir / name for name in GOOD + INAUDIBLE)
    return {result.path.name: result.transcript.text for result in results}


def test_one_file_prints_its_text(checkpoint_dir, recordings_dir, expected, capsys) -> None:
    assert run("--checkpoint", checkpoint_dir, "--audio_file", recordings_dir / "mono.wav") == 0
    output = capsys.readouterr()
    assert output.out == expected["mono.wav"] + "\n"
    assert len(output.out) > 10
    assert output.err == ""


def test_bad_inputs_are_one_line_each_and_the_rest_is_transcribed(
    checkpoint_dir, recordings_dir, expected, capsys
) -> None:
    names = [name for group in zip(BAD, GOOD + INAUDIBLE, strict=False) for name in group] + INAUDIBLE[1:]
    paths = {name: recordings_dir / name for name in names}
    assert run("--checkpoint", checkpoint_dir, *paths.values(), "--batch_size", 3) == 1
    output = capsys.readouterr()
    assert output.out.splitlines() == [f"{paths[name]}\t{expected[name]}" for name in names if name in expected]
    errors = output.err.splitlines()
    assert len(errors) == len(BAD)
    for line, (name, reason) in zip(errors, BAD.items(), strict=True):
        assert line.startswith(f"error: {paths[name]}")
        assert reason in line


def test_a_name_that_no_file_can_have_is_one_line(checkpoint_dir, recordings_dir, expected, capsys) -> None:
    long_name = f"{'x' * 300}/a.wav"
    assert run("--checkpoint", checkpoint_dir, long_name, recordings_dir / "mono.wav") == 1
    output = capsys.readouterr()
    assert output.out == f"{recordings_dir / 'mono.wav'}\t{expected['mono.wav']}\n"
    assert output.err == f"error: {long_name}: File name too long; check the path\n"


@pytest.mark.parametrize("flag", ["-", "--paths_from_stdin"])
def test_a_closed_stdin_is_one_line(checkpoint_dir, capsys, monkeypatch, flag: str) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run("--checkpoint", checkpoint_dir, flag) == 2
    assert capsys.readouterr().err == "error: standard input: is closed; connect it, or name files\n"


@pytest.mark.parametrize("name", INAUDIBLE)
def test_nothing_to_hear_is_no_error(checkpoint_dir, recordings_dir, capsys, name: str) -> None:
    assert run("--checkpoint", checkpoint_dir, recordings_dir / name, "--use_ttt", "--format", "jsonl") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["hyp"] == ""
    assert record["words"] == []
    assert record["adapted"] is False


def test_json_lines_of_a_folder_with_adaptation(checkpoint_dir, recordings_dir, tmp_path, expected) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in GOOD:
        shutil.copy(recordings_dir / name, folder)
    output = tmp_path / "out.jsonl"
    flags = ("--use_ttt", "--ttt_loss_type", "entropy", "--ttt_steps", 2, "--ttt_learning_rate", 0.2)
    assert run("--checkpoint", checkpoint_dir, folder, *flags, "--format", "jsonl", "--output", output) == 0
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert [record["path"] for record in records] == [str(folder / name) for name in sorted(GOOD)]
    for record in records:
        name = Path(record["path"]).name
        assert record["id"] == Path(name).stem
        assert record["adapted"] is True
        assert record["hyp"] != expected[name]
        assert record["hyp"] == " ".join(word["word"] for word in record["words"])
        assert record["duration"] == pytest.approx(soundfile.info(folder / name).duration, abs=0.01)
        for word in record["words"]:
            assert 0 <= word["start"] < word["end"] <= record["duration"]
            assert 0 <= word["confidence"] <= 1


def test_the_checkpoint_decides_unless_the_flag_does(checkpoint_dir, recordings_dir, tmp_path, capsys) -> None:
    shutil.copytree(checkpoint_dir, tmp_path / "adapting")
    config = json.loads((checkpoint_dir / "config.json").read_text()) | {"enable_ttt": True}
    (tmp_path / "adapting" / "config.json").write_text(json.dumps(config))
    note = "note: adapting to each recording, as the checkpoint's enable_ttt says; --no-use_ttt recognises plainly"
    for folder, flags, adapted, notes in (
        (checkpoint_dir, [], False, []),
        (checkpoint_dir, ["--use_ttt"], True, []),
        (tmp_path / "adapting", [], True, [note]),
        (tmp_path / "adapting", ["--use_ttt"], True, []),
        (tmp_path / "adapting", ["--no-use_ttt"], False, []),
        (tmp_path / "adapting", ["--ttt_steps", 2], True, [note]),
    ):
        assert run("--checkpoint", folder, recordings_dir / "mono.wav", "--format", "jsonl", *flags) == 0
        output = capsys.readouterr()
        assert json.loads(output.out)["adapted"] is adapted
        assert output.err.splitlines() == notes


def test_a_glob(checkpoint_dir, recordings_dir, expected, capsys) -> None:
    assert run("--checkpoint", checkpoint_dir, recordings_dir / "*_*khz.*") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{recordings_dir / name}\t{expected[name]}" for name in ("stereo_44khz.flac", "telephone_8khz.wav")
    ]


@pytest.mark.parametrize("name", ["mono.wav", "compressed.mp3", "stereo_44khz.flac"])
def test_audio_from_stdin(checkpoint_dir, recordings_dir, expected, capsys, monkeypatch, name: str) -> None:
    stdin = SimpleNamespace(buffer=io.BytesIO((recordings_dir / name).read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run("--checkpoint", checkpoint_dir, "-") == 0
    assert capsys.readouterr().out == expected[name] + "\n"


@pytest.mark.parametrize("content", [b"", b"not audio at all, just text"])
def test_bad_audio_from_stdin_is_named(checkpoint_dir, capsys, monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert run("--checkpoint", checkpoint_dir, "-") == 2
    assert capsys.readouterr().err.startswith("error: standard input: ")


def test_paths_from_stdin(checkpoint_dir, recordings_dir, expected, capsys, monkeypatch) -> None:
    paths = [recordings_dir / name for name in GOOD[:2]]
    content = f"{paths[0]}\n\n{paths[1]}\n".encode() + b"no_text_\xe9.wav\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert run("--checkpoint", checkpoint_dir, "--paths_from_stdin") == 1
    output = capsys.readouterr()
    assert output.out.splitlines() == [f"{path}\t{expected[path.name]}" for path in paths]
    assert output.err == "error: no_text_\\udce9.wav: no such audio file; check the path\n"


@pytest.mark.parametrize("format_name", ["srt", "vtt"])
def test_subtitles(checkpoint_dir, recordings_dir, tmp_path, capsys, format_name: str) -> None:
    paths = [recordings_dir / name for name in GOOD[:2]]
    assert run("--checkpoint", checkpoint_dir, paths[0], "--format", format_name) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1\n00:00:00,0" if format_name == "srt" else "WEBVTT\n\n00:00:00.0")
    assert run("--checkpoint", checkpoint_dir, *paths, "--format", format_name, "--output_dir", tmp_path / "new") == 0
    assert (tmp_path / "new" / f"mono.{format_name}").read_text() == printed
    assert (tmp_path / "new" / f"stereo_44khz.{format_name}").is_file()
    assert run("--checkpoint", checkpoint_dir, *paths, "--format", format_name) == 2
    assert "give --output_dir" in capsys.readouterr().err


def test_best_model_pt_is_the_same_model(checkpoint_dir, recordings_dir, tmp_path, expected, capsys) -> None:
    model, processor = load_checkpoint(checkpoint_dir)
    save_best_model(tmp_path / "best_model.pt", model, processor.tokenizer.get_vocab())
    assert run("--checkpoint", tmp_path / "best_model.pt", recordings_dir / "mono.wav") == 0
    assert capsys.readouterr().out == expected["mono.wav"] + "\n"


def test_a_data_set_is_scored(checkpoint_dir, librispeech_dir, tmp_path, capsys) -> None:
    arguments = ("--checkpoint", checkpoint_dir, "--data_dir", librispeech_dir, "--subset", "dev-tiny")
    flags = ("--use_ttt", "--batch_size", 2, "--move_emission_to_cpu", "--seed", 3)
    assert run(*arguments, *flags, "--output_dir", tmp_path, "--output", tmp_path / "out.txt", "--format", "text") == 0
    summary = capsys.readouterr().out
    records = [json.loads(line) for line in (tmp_path / "transcripts.jsonl").read_text().splitlines()]
    assert [record["ref"] for record in records] == ["A FACE", "BAD BED", "CAFE"]
    lines = [f"{record['id']}\t{record['hyp']}" for record in records]
    assert (tmp_path / "out.txt").read_text().splitlines() == lines

    results = json.loads((tmp_path / "results.json").read_text())
    assert results["words"]["reference_length"] == 5
    assert results["characters"]["reference_length"] == len("A FACEBAD BEDCAFE")
    errors = sum(results["words"][kind] for kind in ("substitutions", "deletions", "insertions"))
    assert results["wer"] == pytest.approx(errors / 5)
    low, high = results["wer_interval"]
    assert low <= results["wer"] <= high
    assert results["num_adapted"] == results["num_scored"] == 3
    assert results["audio_seconds"] == pytest.approx(sum(record["duration"] for record in records), abs=0.01)
    assert set(results["rtfx"]) == {"total", "recognition", "adaptation", "decoding"}
    assert results["settings"]["ttt"]["seed"] == results["settings"]["seed"] == 3
    assert results["run"]["num_threads"] == torch.get_num_threads()
    assert f"WER  {100 * results['wer']:.2f} % [" in summary
    assert "batch size 2" in summary
    assert results["run"]["hardware"] in summary


def ttt_settings(checkpoint: Path, librispeech_dir: Path, output_dir: Path, *flags: object) -> dict:
    """The options that a run adapted with."""
    arguments = ("--checkpoint", checkpoint, "--data_dir", librispeech_dir, "--subset", "test-tiny", "--use_ttt")
    assert run(*arguments, *flags, "--output_dir", output_dir) == 0
    return json.loads((output_dir / "results.json").read_text())["settings"]["ttt"]


def test_every_flag_of_adaptation_arrives(checkpoint_dir, librispeech_dir, tmp_path) -> None:
    flags = {
        "loss_type": "entropy_mcc", "mask_prob": 0.25, "steps": 2, "learning_rate": 0.03, "front_end_step": 0.04,
        "parameters": "both", "layers": "1", "conv_layers": "0-2,6", "skip_entropy": 0.5, "mode": "continual",
        "reset_every": 3, "unadapted_share": 0.25,
    }  # fmt: skip
    given = [word for name, value in flags.items() for word in (f"--ttt_{name}", value)]
    settings = ttt_settings(checkpoint_dir, librispeech_dir, tmp_path, *given)
    assert settings == AdaptationOptions(**flags).__dict__


def test_a_data_set_is_a_stream_in_its_own_order(checkpoint_dir, librispeech_dir, tmp_path, monkeypatch) -> None:
    heard = []
    begin = Transcriber.begin

    def spy(self: Transcriber, batch: list) -> object:
        heard.extend(round(len(samples) / self.model.sampling_rate, 2) for samples in batch)
        return begin(self, batch)

    monkeypatch.setattr(Transcriber, "begin", spy)
    ttt_settings(checkpoint_dir, librispeech_dir, tmp_path, "--ttt_mode", "continual")
    assert heard == [round(0.12 * len(text), 2) for text in ("A BEE", "DEAD CAB")]


def test_a_gate_of_the_checkpoint_can_be_switched_off(checkpoint_dir, librispeech_dir, tmp_path) -> None:
    config = json.loads((checkpoint_dir / "config.json").read_text())
    config |= {"ttt_accept": True, "ttt_skip_entropy": 2.0, "ttt_layers": "0"}  # the first of them is retired
    (checkpoint_dir / "config.json").write_text(json.dumps(config))
    given = ttt_settings(checkpoint_dir, librispeech_dir, tmp_path)
    assert (given["skip_entropy"], given["layers"]) == (2.0, "0")
    flags = ("--ttt_skip_entropy", 0, "--ttt_layers", "all", "--overwrite")
    given = ttt_settings(checkpoint_dir, librispeech_dir, tmp_path, *flags)
    assert (given["skip_entropy"], given["layers"]) == (0.0, "all")


@pytest.mark.parametrize(
    ("flags", "last"), [(("--ttt_layers", "0,2"), 1), (("--ttt_parameters", "both", "--ttt_conv_layers", "7"), 6)]
)
def test_a_layer_that_the_model_lacks_is_one_line(checkpoint_dir, recordings_dir, capsys, flags, last: int) -> None:
    assert run("--checkpoint", checkpoint_dir, recordings_dir / "mono.wav", "--use_ttt", *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(f"{flags[-2][6:]} is '{flags[-1]}'; it must be layers from 0 to {last}")


def test_a_bad_file_in_a_data_set_is_left_out_and_told(checkpoint_dir, librispeech_dir, tmp_path, capsys) -> None:
    shutil.copytree(librispeech_dir, tmp_path / "data")
    damaged = next((tmp_path / "data").rglob("2-10-0001.*"))
    soundfile.write(damaged, np.array([0.1, np.nan] * 4000), 16000, subtype="FLOAT")
    arguments = ("--checkpoint", checkpoint_dir, "--data_dir", tmp_path / "data", "--subset", "dev-tiny")
    assert run(*arguments, "--output_dir", tmp_path) == 1
    output = capsys.readouterr()
    assert output.err.startswith(f"error: {damaged}")
    assert "1 failed" in output.out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["num_scored"] == 2
    assert list(results["failures"]) == ["2-10-0001"]


def test_of_a_cut_file_in_a_data_set_the_first_part_is_scored_with_a_warning(
    checkpoint_dir, librispeech_dir, tmp_path, capsys
) -> None:
    shutil.copytree(librispeech_dir, tmp_path / "data")
    damaged = next((tmp_path / "data").rglob("2-10-0001.*"))
    damaged.write_bytes(damaged.read_bytes()[:-4000])
    arguments = ("--checkpoint", checkpoint_dir, "--data_dir", tmp_path / "data", "--subset", "dev-tiny")
    assert run(*arguments, "--output_dir", tmp_path) == 1
    assert capsys.readouterr().err == f"warning: {damaged}: damaged or cut after 0.7 s; the rest is missing\n"
    assert json.loads((tmp_path / "results.json").read_text())["num_scored"] == 3
    assert run(*arguments, "--output_dir", tmp_path, "--strict", "--overwrite") == 1
    assert capsys.readouterr().err.startswith(f"error: {damaged}: damaged or cut after 0.7 s; copy it again")
    assert json.loads((tmp_path / "results.json").read_text())["num_scored"] == 2


@pytest.fixture
def call_path(tmp_path: Path) -> Path:
    """A call: one speaker on the left, another on the right."""
    channels = [soundfile.read(path)[0] for path in _write_calls(tmp_path)]
    soundfile.write(tmp_path / "call.wav", np.stack(channels, axis=1), 16000)
    return tmp_path / "call.wav"


def _write_calls(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / "left.wav", folder / "right.wav"]
    for path in paths:
        soundfile.write(path, rng.normal(scale=0.1, size=16000), 16000)
    return paths


def test_each_channel_is_a_result_of_its_own(checkpoint_dir, call_path: Path, tmp_path, capsys) -> None:
    expected = []
    for name in ("left.wav", "right.wav"):
        assert run("--checkpoint", checkpoint_dir, tmp_path / name) == 0
        expected.append(capsys.readouterr().out.rstrip("\n"))
    assert expected[0] != expected[1]
    assert run("--checkpoint", checkpoint_dir, call_path, "--channels", "each") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{call_path}[left]\t{expected[0]}", f"{call_path}[right]\t{expected[1]}"]
    for channel, text in zip(("left", "right"), expected, strict=True):
        assert run("--checkpoint", checkpoint_dir, call_path, "--channels", channel) == 0
        assert capsys.readouterr().out == text + "\n"
    arguments = (tmp_path / "left.wav", call_path, "--channels", "each", "--format", "jsonl")
    assert run("--checkpoint", checkpoint_dir, *arguments) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["id"] for record in records] == ["left", "call[left]", "call[right]"]


def test_more_than_two_channels_are_numbered(checkpoint_dir, tmp_path, capsys) -> None:
    noise = np.random.default_rng(0).normal(scale=0.1, size=(8000, 3))
    soundfile.write(tmp_path / "room.wav", noise, 16000)
    arguments = (tmp_path / "room.wav", "--channels", "each", "--format", "jsonl")
    assert run("--checkpoint", checkpoint_dir, *arguments) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["id"] for record in records] == ["room[1]", "room[2]", "room[3]"]
    assert len({record["hyp"] for record in records}) == 3


def test_channels_that_cancel_are_a_warning_and_no_failure(checkpoint_dir, call_path: Path, capsys) -> None:
    left, _ = soundfile.read(call_path.parent / "left.wav")
    soundfile.write(call_path, np.stack([left, -left], axis=1), 16000)
    assert run("--checkpoint", checkpoint_dir, call_path) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {call_path}: its channels nearly cancel")


def test_a_damaged_file_is_transcribed_in_part_or_refused_by_strict(
    checkpoint_dir, recordings_dir, expected, tmp_path, capsys
) -> None:
    content = (recordings_dir / "mono.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: len(content) // 2])
    assert run("--checkpoint", checkpoint_dir, tmp_path / "cut.wav") == 1
    output = capsys.readouterr()
    assert 3 < len(output.out.strip()) < len(expected["mono.wav"])
    assert output.err == f"warning: {tmp_path / 'cut.wav'}: damaged or cut after 0.6 s; the rest is missing\n"
    assert run("--checkpoint", checkpoint_dir, tmp_path / "cut.wav", "--strict") == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"error: {tmp_path / 'cut.wav'}: damaged or cut after 0.6 s; copy it again")
    assert run("--checkpoint", checkpoint_dir, tmp_path / "cut.wav", recordings_dir / "mono.wav", "--strict") == 1


def test_what_a_folder_search_leaves_out_is_one_line(
    checkpoint_dir, recordings_dir, expected, tmp_path, capsys
) -> None:
    shutil.copy(recordings_dir / "mono.wav", tmp_path)
    shutil.copy(recordings_dir / "mono.wav", tmp_path / "._mono.wav")
    (tmp_path / "notes.txt").write_text("hello")
    assert run("--checkpoint", checkpoint_dir, tmp_path) == 0
    output = capsys.readouterr()
    assert output.out == expected["mono.wav"] + "\n"
    (line,) = output.err.splitlines()
    assert line.startswith(f"warning: {tmp_path}: 2 left out: ")
    assert "._mono.wav (AppleDouble)" in line and "notes.txt (no audio)" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to transcribe"),
        (("a.wav", "--data_dir", "x", "--subset", "y"), "--data_dir"),
        (("--data_dir", "x"), "--subset"),
        (("--data_dir", "x", "--subset", "y", "--format", "srt"), "--format srt"),
        (("-", "--paths_from_stdin"), "--paths_from_stdin"),
        (("a.wav", "--ttt_steps", "2"), "--ttt_steps: has no effect without adaptation; add --use_ttt"),
        (("a.wav", "--use_ttt", "--ttt_loss_type", "ctc"), "loss_type is 'ctc'; it must be one of"),
        (("a.wav", "--use_ttt", "--ttt_mask_prob", "1.5"), "mask_prob is 1.5"),
        (
            ("a.wav", "--use_ttt", "--ttt_layers", "two"),
            "layers is 'two'; it must be \"all\" or numbers from 0 such as",
        ),
        (("a.wav", "--use_ttt", "--ttt_conv_layers", "3-1"), "conv_layers is '3-1'; it must be"),
        (
            ("a.wav", "--use_ttt", "--ttt_skip_entropy", "-1"),
            "skip_entropy is -1.0; it must be a finite number of 0 or",
        ),
        (("a.wav", "--use_ttt", "--ttt_mode", "forever"), "mode is 'forever'; it must be one of episodic, continual"),
        (
            ("a.wav", "--use_ttt", "--ttt_reset_every", "-2"),
            "reset_every is -2; it must be a whole number of 0 or",
        ),
        (
            ("a.wav", "--use_ttt", "--ttt_mode", "continual", "--batch_size", "2"),
            "batch size 2: a stream is recognised",
        ),
        (("--data_dir", "x", "--subset", "y", "--channels", "left"), "--channels left: is for recordings"),
        (
            ("a.wav", "--no-use_ttt", "--ttt_layers", "0"),
            "--ttt_layers: has no effect without adaptation",
        ),
        (("a.wav", "--language", "deu"), "language deu: this model has no languages to choose from; leave it out"),
        (("a.wav", "--batch_size", "0"), "batch size 0"),
        (("a.wav", "--chunk_seconds", "0"), "chunk_seconds 0"),
        (("a.wav", "--num_threads", "0"), "--num_threads 0"),
        (("a.wav", "--seed", "-1"), "--seed -1"),
        (("a.wav", "--device", "abacus"), "device abacus"),
        (("a.wav", "--beam_size", "0"), "beam size 0"),
        (("a.wav", "--beam_size", "50"), 'pip install "lact-asr[lm]"'),
        (("a.wav", "--output", "no/such/folder/out.txt"), "its folder does not exist"),
        (("a.wav", "--output", "o.txt", "--output_dir", "o"), "--output_dir"),
        (("a.wav", "--output", "o.txt", "--overwrite", "--resume"), "--overwrite and --resume: both given"),
        (("a.wav", "--resume"), "--resume: there is nothing to go on with"),
        (("a.wav", "--resume", "--output", "-"), "--resume: standard output cannot be gone on with"),
        (("a.wav", "--resume", "--output", "/dev/null"), "/dev/null: is no file that could be gone on with"),
        (
            ("a.wav", "--use_ttt", "--ttt_mode", "continual", "--resume", "--output", "o.txt"),
            "--resume: a stream cannot be gone on with",
        ),
    ],
)
def test_wrong_arguments_are_one_line(
    checkpoint_dir, tmp_path, capsys, monkeypatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "kenlm", None)  # as if the lm extra is missing
    assert run("--checkpoint", checkpoint_dir, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_a_wrong_option_of_adaptation_is_told_before_the_model_is_loaded(capsys) -> None:
    assert run("a.wav", "--checkpoint", "missing", "--use_ttt", "--ttt_parameters", "everything") == 2
    assert capsys.readouterr().err.startswith(
        "error: TTT option parameters is 'everything'; it must be both, or one or more of"
    )


def test_inputs_without_a_name_are_one_line(checkpoint_dir, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for flags in (("--output_dir", "o"), ("--format", "ctm"), ("--format", "jsonl", "--output", "o.jsonl")):
        assert run("--checkpoint", checkpoint_dir, "", "..missing", "/no*where/", *flags) == 2
        assert capsys.readouterr().err.count("\n") == 3


def test_wrong_checkpoints_are_one_line(checkpoint_dir, recordings_dir, tmp_path, capsys) -> None:
    (tmp_path / "empty_folder").mkdir()
    shutil.copytree(checkpoint_dir, tmp_path / "other_vocabulary")
    vocabulary = json.loads((checkpoint_dir / "vocab.json").read_text()) | {"Ü": 30}
    (tmp_path / "other_vocabulary" / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "text.pt").write_text("hello")
    for name, message in {
        "empty_folder": "config.json",
        "other_vocabulary": "vocabulary",
        "text.pt": "not a PyTorch checkpoint",
        "missing": "no such file or folder",
    }.items():
        assert run("--checkpoint", tmp_path / name, recordings_dir / "mono.wav") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: checkpoint ")
        assert message in line


def test_an_unknown_subset_lists_those_that_are_there(checkpoint_dir, librispeech_dir, capsys) -> None:
    assert run("--checkpoint", checkpoint_dir, "--data_dir", librispeech_dir, "--subset", "test-clean") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "dev-tiny" in line


def test_ctrl_c_is_quiet(checkpoint_dir, recordings_dir, tmp_path, capsys, monkeypatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Transcriber, "begin", interrupt)
    arguments = ("--checkpoint", checkpoint_dir, recordings_dir / "mono.wav", "--output", tmp_path / "out.txt")
    assert run(*arguments) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_the_launcher_is_the_same_program(checkpoint_dir, recordings_dir, expected) -> None:
    command = [
        sys.executable,
        str(REPOSITORY / "inference" / "hybrid_asr_inference.py"),
        "--checkpoint",
        str(checkpoint_dir),
    ]
    paths = [str(recordings_dir / name) for name in ("corrupt.wav", "mono.wav")]
    result = subprocess.run([*command, *paths], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout == f"{paths[1]}\t{expected['mono.wav']}\n"
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {paths[0]}")


def test_help_is_instant() -> None:
    script = "import sys, lact_asr_model.commands.transcribe, lact_asr_model.commands.adapt; "
    script += "print(sorted({'torch', 'transformers', 'soundfile', 'numpy'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
