import json

import numpy as np
import pytest
import soundfile

from lact_asr_model.commands.tune_lm import main
from lact_asr_model.decoding.language_model import load_language_model
from lact_asr_model.decoding.options import DecodingOptions
from lact_asr_model.decoding.tuned_weights import Weights, read_tuned_weights
from lact_asr_model.evaluation.lm_tuning import decoding_errors, search_weights

pytest.importorskip("kenlm", reason="the lm extra is not installed")


def run(*arguments: object) -> int:
    """Run the command in this process; returns its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as exit:
        return exit.code
    return 0


def test_the_search_finds_the_best_weights_of_a_bowl() -> None:
    tried: list[Weights] = []

    def errors_of(weights: Weights) -> tuple[int, int]:
        tried.append(weights)
        distance = abs(weights.lm_weight - 1.4) + abs(weights.word_score + 1.2) / 3
        return round(1000 * distance), 0

    best, _ = search_weights(errors_of, Weights(0.5, 0.5), num_trials=200)
    assert best.lm_weight == pytest.approx(1.4, abs=0.05)
    assert best.word_score == pytest.approx(-1.2, abs=0.15)
    assert len(tried) == len(set(tried)) < 60
    assert min(weights.lm_weight for weights in tried) >= 0


def test_the_search_prefers_fewer_character_errors_among_equals_and_stops_in_time() -> None:
    tried: list[Weights] = []

    def errors_of(weights: Weights) -> tuple[int, int]:
        tried.append(weights)
        return 7, round(100 * abs(weights.word_score - 1.5))

    best, errors = search_weights(errors_of, Weights(0.5, 0.5), num_trials=6)
    assert best.word_score == 1.5
    assert errors == (7, 0)
    assert len(tried) == 6


def test_transcripts_without_a_word_are_told_before_the_work(checkpoint_dir, tmp_path, capsys) -> None:
    folder = tmp_path / "latest"
    folder.mkdir()
    soundfile.write(folder / "a.wav", np.zeros(16000), 16000)
    entry = {"audio_filepath": "a.wav", "text": "привет", "duration": 1.0}
    (folder / "dev.jsonl").write_text(json.dumps(entry) + "\n")
    assert run("--checkpoint", checkpoint_dir, "--subset", folder / "dev.jsonl", "--beam_size", 10) == 2
    assert "no transcript has a word in the recogniser's letters" in capsys.readouterr().err


def test_weights_are_written_where_transcribing_finds_them(checkpoint_dir, librispeech_dir, arpa_path, capsys) -> None:
    arguments = ("--checkpoint", checkpoint_dir, "--data_dir", librispeech_dir, "--subset", "dev-tiny")
    assert run(*arguments, "--lm", arpa_path, "--beam_size", 10, "--num_trials", 4) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2-gram of 3 words")
    assert "unknown 2 of 5 words (40.00%)" in lines[0]  # A FACE, BAD BED, CAFE
    trials = [line.split() for line in lines if line.startswith("lm_weight")]
    assert len(trials) == 4
    best = min(trials, key=lambda trial: (float(trial[5]), float(trial[8])))

    language_model = load_language_model(arpa_path)
    weights = read_tuned_weights(checkpoint_dir, language_model.sha256)
    assert weights == Weights(float(best[1]), float(best[3]))
    tuning = json.loads((checkpoint_dir / "decoding.json").read_text())["tuning"]
    assert tuning["subset"] == "dev-tiny"
    assert 100 * tuning["wer"] == pytest.approx(float(best[5]), abs=0.01)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--subset", "test-tiny"), "is a test set by its name"),
        (("--subset", "corpus/test/all.jsonl"), "is a test set by its name"),
        (("--subset", "dev-tiny", "--num_trials", "-1"), "--num_trials -1"),
        (("--subset", "dev-tiny", "--max_utterances", "0"), "--max_utterances 0"),
        (("--subset", "dev-tiny", "--lm", "none"), "there is nothing to tune"),
        (("--subset", "dev-tiny", "--beam_size", "1"), "greedy"),
        (("--subset", "dev-tiny", "--output_dir", "missing"), "no such folder"),
    ],
)
def test_wrong_arguments_are_one_line(
    checkpoint_dir, librispeech_dir, arpa_path, monkeypatch, capsys, flags: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(arpa_path.parent)
    arguments = ("--checkpoint", checkpoint_dir, "--data_dir", librispeech_dir, "--lm", arpa_path.name)
    assert run(*arguments, *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_an_utterance_without_a_frame_says_nothing_and_is_not_refused(arpa_path) -> None:
    vocabulary = ["<pad>", "|", *"ABCDEF"]
    path = np.eye(len(vocabulary))[[2, 1]]  # A
    emissions = [np.zeros((0, len(vocabulary)), np.float32), np.log(path + 1e-9).astype(np.float32)]
    options = DecodingOptions(beam_size=5, lm=str(arpa_path))
    words, _ = decoding_errors(options, Weights(0.1, 0.0), vocabulary, emissions, ["BED", "A"])
    assert (words.deletions, words.errors, words.reference_length) == (1, 1, 2)
