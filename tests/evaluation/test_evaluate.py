"""The `evaluate` command on real files, with a tiny random model."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lact_asr_model.commands.evaluate import main


@pytest.fixture
def arguments(librispeech_dir: Path, checkpoint_dir: Path, tmp_path: Path) -> list[str]:
    values = {"data_dir": librispeech_dir, "subset": "test-tiny", "checkpoint": checkpoint_dir}
    values |= {"conditions": "clean,gaussian:0.05", "ttt_steps": "1", "output_dir": tmp_path / "run"}
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def test_a_run_leaves_lines_results_and_a_table(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments)
    table = capsys.readouterr().out.splitlines()
    records = [json.loads(line) for line in (tmp_path / "run" / "utterances.jsonl").read_text().splitlines()]
    results = json.loads((tmp_path / "run" / "results.json").read_text())

    cells = {(condition, method) for condition in ("clean", "gaussian:0.05") for method in ("none", "ttt")}
    assert {(record["condition"], record["method"]) for record in records} == cells
    assert len(records) == len(cells) * 2  # utterances
    assert {record["ref"] for record in records} == {"A BEE", "DEAD CAB"}
    assert {(row["condition"], row["method"]) for row in results["results"]} == cells
    assert all(row["words"]["reference_length"] == 4 for row in results["results"])
    assert {"commit", "seed", "hardware", "num_threads", "weights_sha256", "ttt"} <= results.keys()
    assert len(table) == 2 + len(cells)


def test_a_killed_run_goes_on_to_the_same_transcripts(arguments: list[str], tmp_path: Path) -> None:
    main(arguments)
    path = tmp_path / "run" / "utterances.jsonl"
    complete = path.read_bytes()
    path.write_bytes(complete[: len(complete) // 2])
    main(arguments)

    def transcripts(content: bytes) -> set[tuple[str, ...]]:
        records = map(json.loads, content.decode().splitlines())
        return {(record["condition"], record["method"], record["id"], record["hyp"]) for record in records}

    assert transcripts(path.read_bytes()) == transcripts(complete)


def test_the_same_table_for_every_method_and_a_mean_with_pictures(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    more = ["--conditions", "clean,gaussian:0.05,gain:-20", "--methods", "none,tent:1,suta,ttt_front_end:1"]
    main([*arguments, *more, "--steps", "1,2", "--plots"])
    methods = ["none", "tent:1", "suta:1", "suta:2", "ttt_front_end:1"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [
        [condition, method]
        for condition in ("clean", "gaussian:0.05", "gain:-20", "mean of shifted")
        for method in methods
    ]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [row["method"] for row in results["mean_of_shifted"]] == methods
    drawn = {path.stem for path in (tmp_path / "run").glob("*.png") if path.stat().st_size > 0}
    assert {"wer", "time", "scatter", "wer_by_steps"} <= drawn
    assert "wer_by_noise" not in drawn  # there is one level only


def test_other_utterances_are_rows_of_the_same_compact_table(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*arguments, "--extra_subsets", "others=dev-tiny", "--compact"])
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    for of_rate in (rows[:6], rows[6:]):  # words, then characters
        assert of_rate[0] == ["condition", "none", "ttt"]
        assert [row[0] for row in of_rate[1:]] == ["clean", "gaussian:0.05", "others", "mean of shifted", "time / none"]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    wer = {(row["condition"], row["method"]): row["wer"] for row in results["results"]}
    for row in results["mean_of_shifted"]:
        mean = (wer["gaussian:0.05", row["method"]] + wer["others", row["method"]]) / 2
        assert row["wer"] == pytest.approx(mean)
        assert row["num_utterances"] == 2 + 3
    assert results["extra_subsets"] == "others=dev-tiny"


def test_two_processes_make_one_table(arguments: list[str], tmp_path: Path) -> None:
    main([*arguments, "--output_dir", str(tmp_path / "alone")])
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "lact_asr_model.cli")
    command = [sys.executable, *torchrun, "evaluate", *arguments, "--extra_subsets", "others=dev-tiny"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("| condition") == 1
    assert [path.name for path in (tmp_path / "run").glob("*.jsonl")] == ["utterances.jsonl"]

    def transcripts(folder: str) -> list[tuple[str, ...]]:
        records = map(json.loads, (tmp_path / folder / "utterances.jsonl").read_text().splitlines())
        return sorted((record["condition"], record["method"], record["id"], record["hyp"]) for record in records)

    shared = transcripts("run")
    assert [each for each in shared if each[0] != "others"] == transcripts("alone")
    assert len(shared) == 2 * (2 * 2 + 3)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["num_processes"] == 2


def test_results_of_other_data_are_not_taken_for_these(
    arguments: list[str], librispeech_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments)
    capsys.readouterr()
    shutil.copytree(librispeech_dir, tmp_path / "others")
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--data_dir", str(tmp_path / "others")])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"run: holds results with data_dir '{librispeech_dir}', not" in line


def test_a_name_that_is_not_utf_8(arguments: list[str], librispeech_dir: Path, tmp_path: Path) -> None:
    recording = next(librispeech_dir.rglob("*.wav"))
    shutil.copyfile(recording, tmp_path / "caf\udce9.wav")
    manifest = tmp_path / "names.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": "caf\udce9.wav", "text": "A BEE"}) + "\n")
    for _ in range(2):
        main([*arguments, "--subset", str(manifest), "--methods", "none"])
    records = [json.loads(line) for line in (tmp_path / "run" / "utterances.jsonl").read_text().splitlines()]
    assert [record["condition"] for record in records] == ["clean", "gaussian:0.05"]
    assert {record["id"] for record in records} == {"caf\udce9"}


def test_what_is_carried_over_begins_anew_under_every_condition(arguments: list[str], tmp_path: Path) -> None:
    step = ["--ttt_loss_type", "entropy_mcc", "--ttt_learning_rate", "0.5", "--subset", "dev-tiny"]
    main([*arguments, *step, "--conditions", "clean,gain:0", "--methods", "ttt,continual"])  # the same audio twice
    records = [json.loads(line) for line in (tmp_path / "run" / "utterances.jsonl").read_text().splitlines()]

    def transcripts(condition: str, method: str) -> list[str]:
        chosen = [record for record in records if (record["condition"], record["method"]) == (condition, method)]
        return [record["hyp"] for record in chosen]

    alone, stream = transcripts("clean", "ttt"), transcripts("clean", "continual")
    assert stream[0] == alone[0]
    assert stream[1:] != alone[1:]
    assert transcripts("gain:0", "continual") == stream


def test_what_is_carried_over_needs_one_process(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        main([*arguments, "--methods", "none,continual"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: method 'continual': takes one utterance after the other; run it without torchrun"


def test_another_ctc_model_gets_the_same_table(
    arguments: list[str], wav2vec2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = "none,tent:1,suta:1,ttt,ttt_norms:2"
    arguments[arguments.index("--ttt_steps") + 1] = "3"
    main([*arguments, "--checkpoint", str(wav2vec2_dir), "--methods", methods, "--ttt_loss_type", "entropy"])
    assert len(capsys.readouterr().out.splitlines()) == 2 + 2 * 5
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {row["words"]["reference_length"] for row in results["results"]} == {4}
    given = {name: results["ttt"][name] for name in ("loss_type", "steps", "parameters", "unadapted_share", "speed")}
    assert given == {
        "loss_type": "entropy",
        "steps": 3,
        "parameters": "front_end+norms",
        "unadapted_share": 0.25,
        "speed": "fast",
    }
    elsewhere = ["--output_dir", str(tmp_path / "elsewhere")]
    with pytest.raises(SystemExit):
        main([*arguments, "--checkpoint", str(wav2vec2_dir), "--methods", "ttt_fast_weights", *elsewhere])
    (line,) = capsys.readouterr().err.splitlines()
    assert "this model has no fast_weights to move, it has front_end, attention, norms, suta" in line


def test_the_syntax_of_methods_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    assert "ttt_fast_weights:1,ttt_front_end:2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--methods", "suta", "--peer_learning_rate", "0"], "learning rate 0.0 of tent and suta"),
        (["--steps", "0"], "--steps 0: '0' is not a number of steps"),
        (["--methods", "none,ttt_fog"], "method 'ttt_fog': unknown; choose from none, tent"),
        (["--language", "deu"], "language deu: this model has no languages to choose from"),
        (["--methods", "continual", "--batch_size", "2"], "method 'continual': takes one utterance at a time"),
        (["--ttt_mode", "continual"], "--ttt_mode continual: the method says it here"),
        (["--extra_subsets", "dev-tiny"], "'dev-tiny': is not NAME=SUBSET"),
        (["--conditions", "protocol"], "give --impulse_response_dir"),
        (["--methods", "none,magic"], "method 'magic': unknown; choose from none, tent"),
        (["--conditions", "fog"], "condition 'fog': unknown"),
        (["--conditions", "noise:5"], "give --noise_dir"),
        (["--subset", "test-huge"], "no LibriSpeech subset 'test-huge'"),
        (["--max_utterances", "0"], "--max_utterances 0: is below 1"),
        (["--baseline", "suta:3"], "--baseline suta:3: is not one of the methods; add it to --methods"),
        (["--seed", "-1"], "--seed -1: is below 0"),
        (["--subset", "test-tiny+test-tiny"], "two of them have this id"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], extra: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, *extra])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
