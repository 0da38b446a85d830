"""Beam search, language model, n-best lists and CTM, from the flags of `lact-asr transcribe` to its output."""

import json
import shutil
from pathlib import Path

import pytest

from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.commands.transcribe import main
from lact_asr_model.decoding.factory import make_decoder
from lact_asr_model.decoding.language_model import load_language_model
from lact_asr_model.decoding.options import DecodingOptions
from lact_asr_model.decoding.parallel import ParallelDecoder
from lact_asr_model.decoding.tuned_weights import Weights, write_tuned_weights
from lact_asr_model.recognition.transcriber import Transcriber

pytest.importorskip("kenlm", reason="the lm extra is not installed")


def run(*arguments: object) -> int:
    """Run the command in this process; returns its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as exit:
        return exit.code
    return 0


def test_a_language_model_limits_the_words_and_gives_alternatives(
    checkpoint_dir, recordings_dir, arpa_path, capsys
) -> None:
    flags = ("--beam_size", 20, "--lm", arpa_path, "--n_best", 3, "--format", "jsonl")
    assert run("--checkpoint", checkpoint_dir, recordings_dir / "mono.wav", *flags) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["n_best"][0] == {"hyp": record["hyp"], "score": record["score"]}
    assert len({best["hyp"] for best in record["n_best"]}) == 3
    scores = [best["score"] for best in record["n_best"]]
    assert scores == sorted(scores, reverse=True)
    assert all(set(best["hyp"].split()) <= {"FACE", "BED", "A"} for best in record["n_best"])


@pytest.mark.parametrize("num_processes", [1, 2])
def test_other_processes_change_nothing(checkpoint_dir, recordings_dir, arpa_path, num_processes: int) -> None:
    model = load(checkpoint_dir)
    vocabulary = model.vocabulary
    options = DecodingOptions(beam_size=100, beam_threshold=60, lm=str(arpa_path), n_best=2)
    paths = [recordings_dir / name for name in ("mono.wav", "silence.wav", "nan.wav", "compressed.mp3", "mono.wav")]

    def results(decoder, batch_size: int) -> list:
        transcriber = Transcriber(model, decoder=decoder, batch_size=batch_size, chunk_seconds=1.0)
        return [result.transcript for result in transcriber.transcribe_files(paths)]

    expected = results(make_decoder(options, vocabulary), batch_size=1)
    assert [transcript is None for transcript in expected] == [False, False, True, False, False]
    assert expected[0].text
    assert len(expected[0].alternatives) == 1
    assert expected[0] == expected[4]
    with ParallelDecoder(options, vocabulary, num_processes) as decoder:
        assert results(decoder, batch_size=1) == expected


def test_the_alternatives_of_a_long_recording_combine_those_of_its_segments(
    checkpoint_dir, recordings_dir, arpa_path
) -> None:
    model = load(checkpoint_dir)
    decoder = make_decoder(
        DecodingOptions(beam_size=100, beam_threshold=60, lm=str(arpa_path), n_best=5), model.vocabulary
    )
    transcriber = Transcriber(model, decoder=decoder, chunk_seconds=1.0)
    (result,) = transcriber.transcribe_files([recordings_dir / "mono.wav"])
    hypotheses = [(result.transcript.text, result.transcript.score), *result.transcript.alternatives]
    assert len(hypotheses) == 5
    scores = [score for _, score in hypotheses]
    assert scores == sorted(scores, reverse=True)
    assert len({text for text, _ in hypotheses}) == 5


def test_ctm(checkpoint_dir, recordings_dir, tmp_path, capsys) -> None:
    shutil.copy(recordings_dir / "mono.wav", tmp_path / "my recording.wav")
    paths = (tmp_path / "my recording.wav", recordings_dir / "compressed.mp3")
    assert run("--checkpoint", checkpoint_dir, *paths, "--format", "ctm") == 0
    lines = [line.split(" ") for line in capsys.readouterr().out.splitlines()]
    assert run("--checkpoint", checkpoint_dir, *paths, "--format", "jsonl") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = ("my_recording", "compressed")
    words = [(name, word) for name, record in zip(names, records, strict=True) for word in record["words"]]
    assert len(lines) == len(words) > 2
    for (name, channel, start, duration, text, confidence), (expected_name, word) in zip(lines, words, strict=True):
        assert (name, channel, text) == (expected_name, "1", word["word"])
        assert float(start) == pytest.approx(word["start"], abs=2e-3)
        assert float(start) + float(duration) == pytest.approx(word["end"], abs=2e-3)
        assert float(confidence) == pytest.approx(word["confidence"], abs=1e-4)


def test_ctm_of_a_data_set(checkpoint_dir, librispeech_dir, tmp_path) -> None:
    arguments = ("--checkpoint", checkpoint_dir, "--data_dir", librispeech_dir, "--subset", "dev-tiny")
    assert run(*arguments, "--format", "ctm", "--output", tmp_path / "out.ctm", "--output_dir", tmp_path) == 0
    ids = [line.split()[0] for line in (tmp_path / "out.ctm").read_text().splitlines()]
    records = [json.loads(line) for line in (tmp_path / "transcripts.jsonl").read_text().splitlines()]
    assert ids == [record["id"] for record in records for _ in record["words"]]


def test_tuned_weights_beside_the_checkpoint_are_used(
    checkpoint_dir, recordings_dir, arpa_path, tmp_path, capsys
) -> None:
    shutil.copytree(checkpoint_dir, tmp_path / "tuned")
    flags = (recordings_dir / "mono.wav", "--beam_size", 20, "--lm", arpa_path, "--format", "jsonl")

    def score(folder: Path, *more: object) -> float:
        assert run("--checkpoint", folder, *flags, *more) == 0
        return json.loads(capsys.readouterr().out)["score"]

    plain = score(checkpoint_dir)
    sha256 = load_language_model(arpa_path).sha256
    write_tuned_weights(tmp_path / "tuned", Weights(lm_weight=1.5, word_score=-2.0), sha256, {})
    tuned = score(tmp_path / "tuned")
    assert tuned != pytest.approx(plain, abs=0.1)
    assert tuned == score(checkpoint_dir, "--lm_weight", 1.5, "--word_score", -2.0)
    assert score(tmp_path / "tuned", "--lm_weight", 0.5, "--word_score", 0.5) == plain
    write_tuned_weights(tmp_path / "tuned", Weights(lm_weight=1.5, word_score=-2.0), "another model", {})
    assert score(tmp_path / "tuned") == plain
    (tmp_path / "tuned" / "decoding.json").write_text(json.dumps({"lm_sha256": sha256}))
    assert run("--checkpoint", tmp_path / "tuned", *flags) == 2
    assert "decoding.json: is not a file of `lact-asr tune-lm`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--beam_size", "0"), "beam size 0"),
        (("--beam_size", "1000000"), "beam size 1000000"),
        (("--lm_weight", "0.5"), "--lm_weight: has no effect on greedy decoding"),
        (("--n_best", "5"), "--n_best: has no effect on greedy decoding"),
        (("--hotwords", "face"), "--hotwords: has no effect on greedy decoding"),
        (("--beam_size", "5", "--n_best", "6"), "n-best 6"),
        (("--beam_size", "5", "--lm", "missing"), "language model missing: no such file"),
        (("--beam_size", "5", "--lm", "corrupt.arpa"), "language model corrupt.arpa: KenLM cannot read it"),
        (("--beam_size", "5", "--lm", "none", "--lexicon", "missing"), "missing: cannot be read"),
        (("--beam_size", "5", "--lm", "none", "--lexicon", "greek.txt"), "such as ΑΒΓ with"),
        (("--beam_size", "5", "--lm", "none", "--hotwords", "7"), "hotword '7'"),
        (("--decoding_processes", "-1"), "--decoding_processes -1"),
    ],
)
def test_wrong_flags_are_one_line(
    checkpoint_dir, recordings_dir, tmp_path, capsys, monkeypatch, flags: tuple[str, ...], message: str, arpa_text
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corrupt.arpa").write_text(arpa_text[:60])
    Path("greek.txt").write_text("ΑΒΓ\n")
    assert run("--checkpoint", checkpoint_dir, recordings_dir / "mono.wav", *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
