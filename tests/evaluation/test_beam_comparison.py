"""`evaluate` with a beam search: one recognition, decoded greedily and with a language model, again and again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lact_asr_model.commands.evaluate import main
from lact_asr_model.recognition.transcriber import Transcriber

pytest.importorskip("kenlm", reason="the lm extra is not installed")


@pytest.fixture
def arguments(librispeech_dir: Path, checkpoint_dir: Path, arpa_path: Path, tmp_path: Path) -> list[str]:
    values = {"data_dir": librispeech_dir, "subset": "test-tiny", "checkpoint": checkpoint_dir}
    values |= {"conditions": "clean,gaussian:0.05", "methods": "none,ttt,ttt_front_end@lm", "ttt_steps": "1"}
    values |= {"ttt_loss_type": "entropy", "output_dir": tmp_path / "run", "lm": arpa_path, "beam_size": 5}
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def lines(path: Path) -> dict[tuple[str, str, str], dict[str, object]]:
    records = map(json.loads, path.read_text().splitlines())
    return {(record["condition"], record["method"], record["id"]): record for record in records}


def test_greedy_and_beam_come_from_one_run_and_the_beam_takes_the_longer(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments)
    output = capsys.readouterr().out
    assert output.index("Greedy decoding:") < output.index("Beam search, 5 hypotheses:")
    (beam_dir,) = (tmp_path / "run").glob("beam_5_*")
    greedy, beam = lines(tmp_path / "run" / "utterances.jsonl"), lines(beam_dir / "utterances.jsonl")
    assert greedy.keys() == beam.keys()
    assert len(greedy) == 2 * 3 * 2
    assert all(beam[key]["seconds"] > record["seconds"] for key, record in greedy.items())
    assert {word for record in beam.values() for word in record["hyp"].split()} <= {"A", "BED", "FACE"}  # the model's
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    cells = [(row["condition"], row["method"]) for row in results["results"]]
    assert [(row["condition"], row["method"]) for row in results["results_of_beam"]] == cells
    assert results["decoding"]["beam_size"] == 5


def test_two_processes_decode_what_the_other_one_recognised(arguments: list[str], tmp_path: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "lact_asr_model.cli")
    extra = ["--subset", "dev-tiny", "--methods", "none,ttt"]  # one utterance more than there are processes
    command = [sys.executable, *torchrun, "evaluate", *arguments, *extra]
    process = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert process.returncode == 0, process.stderr
    (beam_dir,) = (tmp_path / "run").glob("beam_5_*")
    greedy, beam = lines(tmp_path / "run" / "utterances.jsonl"), lines(beam_dir / "utterances.jsonl")
    assert greedy.keys() == beam.keys()
    assert len(greedy) == 2 * 2 * 3


def test_other_settings_of_the_decoder_do_not_run_the_model_again(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ["--methods", "none,ttt"]
    main([*arguments, *methods])
    begun = []
    monkeypatch.setattr(Transcriber, "begin", lambda self, batch: begun.append(batch))
    monkeypatch.setattr("lact_asr_model.evaluation.evaluate.warm_up", lambda recognizers: None)
    main([*arguments, *methods, "--lm_weight", "0.1"])
    assert begun == []
    assert len(list((tmp_path / "run").glob("beam_5_*/utterances.jsonl"))) == 2


def test_what_a_taught_method_learned_from_another_decoder_is_not_taken_for_its_own(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments)
    with pytest.raises(SystemExit) as exit:
        main([*arguments, "--lm_weight", "0.1"])
    assert exit.value.code == 2
    assert "holds results with teacher" in capsys.readouterr().err


def test_a_taught_method_needs_a_beam(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    without_beam = arguments[: arguments.index("--lm")]
    with pytest.raises(SystemExit) as exit:
        main(without_beam)
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "method 'ttt_front_end@lm'" in line
    assert "--beam_size 50" in line
