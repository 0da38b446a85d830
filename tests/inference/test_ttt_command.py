import re
from dataclasses import replace
from pathlib import Path

import pytest

from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.commands.adapt import main
from lact_asr_model.recognition.transcriber import Transcriber


def test_it_prints_before_and_after(checkpoint_dir: Path, recordings_dir: Path, capsys) -> None:
    audio = str(recordings_dir / "mono.wav")
    flags = ["--ttt_loss_type", "entropy_mcc", "--ttt_steps", "2", "--ttt_learning_rate", "0.2"]
    main([audio, "--checkpoint", str(checkpoint_dir), *flags])
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    model = load(checkpoint_dir)
    options = replace(model.default_options, loss_type="entropy_mcc", steps=2, learning_rate=0.2)
    (before,) = Transcriber(model).transcribe_files([audio])
    (after,) = Transcriber(model, ttt_options=options).transcribe_files([audio])
    assert lines["before"] == before.transcript.text != after.transcript.text == lines["after"]
    losses = [float(loss) for loss in re.findall(r"step \d (\S+?)(?:,|$)", lines["loss"])]
    assert losses == pytest.approx(after.transcript.ttt_losses, abs=1e-4)
    assert len(losses) == 2
    assert re.search(r"plain \d+\.\d+ s, adapted \d+\.\d+ s", lines["time"])


def test_a_gate_leaves_a_recording_alone(checkpoint_dir: Path, recordings_dir: Path, capsys) -> None:
    flags = ["--checkpoint", str(checkpoint_dir), "--audio_file", str(recordings_dir / "mono.wav")]
    flags += ["--ttt_loss_type", "entropy_mcc", "--ttt_learning_rate", "0.2", "--ttt_layers", "0-1"]
    texts = []
    for threshold in ("0", "100"):
        main([*flags, "--ttt_skip_entropy", threshold])
        lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
        texts.append((lines["before"], lines["after"]))
    assert texts[0][0] == texts[1][0] == texts[1][1] != texts[0][1]


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--ttt_layers", "2"), ("--ttt_layers", "top"), ("--ttt_mode", "once"), ("--ttt_skip_entropy", "nan")],
)
def test_a_bad_flag_is_one_line(checkpoint_dir: Path, recordings_dir: Path, capsys, flag: str, value: str) -> None:
    audio = str(recordings_dir / "mono.wav")
    with pytest.raises(SystemExit) as exit:
        main(["--checkpoint", str(checkpoint_dir), "--audio_file", audio, flag, value])
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: TTT option {flag.removeprefix('--ttt_')} is ")


@pytest.mark.parametrize("name", ["short_10ms.wav", "silence.wav"])
def test_nothing_to_hear(checkpoint_dir: Path, recordings_dir: Path, capsys, name: str) -> None:
    main(["--checkpoint", str(checkpoint_dir), "--audio_file", str(recordings_dir / name)])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:3] == ["before", "after"]
    assert lines[3].endswith("no step taken")


def test_a_pipe_is_refused_before_it_is_read(checkpoint_dir: Path, capsys) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--checkpoint", str(checkpoint_dir), "/dev/stdin"])
    assert exit.value.code == 2
    message = "/dev/stdin: a pipe cannot be read before and after adaptation; write it to a file first"
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("name", ["empty.wav", "nan.wav", "corrupt.wav", "missing.wav"])
def test_a_bad_recording_is_one_line(checkpoint_dir: Path, recordings_dir: Path, capsys, name: str) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--checkpoint", str(checkpoint_dir), "--audio_file", str(recordings_dir / name)])
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {recordings_dir / name}: ")
