"""The command that finds the options of adaptation: what it tries, what it writes, and when it writes nothing."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.adaptation.peers import Peer
from lact_asr_model.commands.tune_ttt import candidates, main
from lact_asr_model.data.sources import read_references
from lact_asr_model.data.utterance import Utterance, load_samples
from lact_asr_model.recognition.transcriber import Transcriber
from lact_asr_model.recognition.transcript import Transcript

BEST = {"parameters": "norms", "front_end_step": 0.01, "loss_type": "entropy", "steps": 1}


def run(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0


@pytest.fixture
def arguments(checkpoint_dir: Path, librispeech_dir: Path) -> tuple[object, ...]:
    return (
        "--checkpoint",
        checkpoint_dir,
        "--data_dir",
        librispeech_dir,
        "--subset",
        "dev-tiny",
        "--conditions",
        "clean",
    )


def let_options_help(monkeypatch: pytest.MonkeyPatch, utterances: Sequence[Utterance]) -> None:
    """With the best options, recordings as long as these are heard as they are; all else is heard as nothing."""
    heard = {len(load_samples(utterance)): utterance.text or "" for utterance in utterances}

    def transcribe(self: Transcriber, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        options = self.ttt_options
        assert not isinstance(options, Peer)
        is_best = options is not None and all(getattr(options, name) == value for name, value in BEST.items())
        return [Transcript(heard.get(len(each), "") if is_best else "", [], 1.0) for each in recordings]

    monkeypatch.setattr(Transcriber, "transcribe_samples", transcribe)


@pytest.mark.parametrize(("num_helped", "is_by_chance"), [(3, False), (1, True)])
def test_the_best_options_are_written_where_every_command_finds_them(
    arguments,
    checkpoint_dir: Path,
    librispeech_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
    num_helped: int,
    is_by_chance: bool,
) -> None:
    let_options_help(monkeypatch, read_references("dev-tiny", librispeech_dir)[:num_helped])
    assert run(*arguments) == 0
    written = json.loads((checkpoint_dir / "adaptation.json").read_text())
    assert BEST.items() <= written.items()
    assert written["tuning"]["wer_without_adaptation"] == 1.0
    assert written["tuning"]["wer"] < 1.0
    options = load(checkpoint_dir).default_options
    assert all(getattr(options, name) == value for name, value in BEST.items())
    output = capsys.readouterr().out
    assert "--ttt_parameters norms" in output
    assert "best minus no adaptation: -" in output
    assert re.search(r"100.0% WER of the same \d+ utterances: no adaptation", output)
    assert ("may be chance" in output) == is_by_chance


def test_nothing_is_written_where_nothing_helps(
    arguments, checkpoint_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    let_options_help(monkeypatch, [])
    assert run(*arguments) == 0
    assert not (checkpoint_dir / "adaptation.json").exists()
    assert "no candidate lowers the word error rate" in capsys.readouterr().out


def test_every_candidate_adapts_the_model(checkpoint_dir: Path, wav2vec2_dir: Path) -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(scale=0.1, size=8000).astype(np.float32)
    for folder, groups in (
        (checkpoint_dir, {"front_end", "norms", "attention", "front_end+norms", "fast_weights"}),
        (wav2vec2_dir, {"front_end", "norms", "attention", "front_end+norms"}),
    ):
        model = load(folder)
        tried = list(candidates(model))
        assert len(set(tried)) == len(tried)
        assert {options.parameters for options in tried} == groups
        for parameters in sorted(groups):
            options = next(options for options in tried if options.parameters == parameters)
            (transcript,) = Transcriber(model, ttt_options=options).transcribe_samples([samples])
            assert len(transcript.ttt_losses) == options.steps


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--minutes", "0"), "--minutes 0.0: is not above 0"),
        (("--max_utterances", "0"), "--max_utterances 0: is below 1"),
        (("--output_dir", "nowhere"), "--output_dir nowhere: no such folder"),
        (("--conditions", "fog"), "condition 'fog': unknown"),
        (("--minutes", "1e-9"), "too few for one candidate"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, capsys, flags: tuple[str, str], message: str) -> None:
    assert run(*arguments, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_damaged_file_of_options_is_one_line(arguments, checkpoint_dir: Path, capsys) -> None:
    (checkpoint_dir / "adaptation.json").write_text('{"steps": "two"}')
    assert run(*arguments) == 2
    assert "adaptation.json: is not a file of `lact-asr tune-ttt`" in capsys.readouterr().err
