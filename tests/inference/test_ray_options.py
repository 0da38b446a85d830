"""Recognition on several machines, as far as no Ray is needed: what is refused, shared out, and put in order."""

import sys
from pathlib import Path

import pytest

from lact_asr_model.commands.transcribe import main
from lact_asr_model.errors import UserError
from lact_asr_model.recognition.destinations import OneFile
from lact_asr_model.recognition.output_formats import ctm_names, jsonl_head
from lact_asr_model.recognition.ray_workers import _placed
from lact_asr_model.recognition.resumption import windows
from lact_asr_model.recognition.transcript import FileResult


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ray", "local"], "--ray: needs a file to go on with if it is stopped; give --output or --output_dir"),
        (["--ray", "local", "--output", "-"], "--ray: needs a file to go on with"),
        (["--ray", "local", "--output", "/dev/null"], "--ray: needs a file to go on with"),
        (
            ["--ray", "local", "--output", "out.txt", "--ray_workers", "0"],
            "--ray_workers 0: is below 1; give 1 or more",
        ),
        (["--ray_workers", "2"], "--ray_workers: has no effect on one process; add --ray local, or an address"),
        (["-", "--ray", "local", "--output", "out.txt"], "-: other machines cannot read standard input"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    flags: list[str], message: str, recordings_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([str(recordings_dir / "mono.wav"), *flags])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")


def test_the_missing_extra_is_one_line(
    recordings_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit) as exit_:
        main([str(recordings_dir / "mono.wav"), "--ray", "local", "--output", str(tmp_path / "out.txt")])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == 'error: --ray: needs the ray extra; run `pip install "lact-asr[ray]"`\n'
    assert not (tmp_path / "out.txt").exists()


def test_workers_share_the_windows_of_one_process() -> None:
    alone = list(windows(40, (), 2))
    assert list(windows(40, (), 2, is_shared=True)) == alone
    assert list(windows(3, {1}, 1, is_shared=True)) == [[0], [2]]


def test_any_window_may_be_one_in_which_several_workers_ended() -> None:
    done = {0, *range(16, 32), 35}
    assert list(windows(40, done, 2, is_shared=True)) == [list(range(16)), list(range(32, 40))]


@pytest.mark.parametrize("format_name", ["jsonl", "text", "ctm"])
def test_what_was_finished_in_another_order_is_in_order_at_the_end(format_name: str, tmp_path: Path) -> None:
    heads = {
        "jsonl": [jsonl_head(str(number)) for number in range(5)],
        "text": [f"{number}\t" for number in range(5)],
        "ctm": [f"{name} " for name in ctm_names(map(str, range(5)))],
    }[format_name]
    ends = {"jsonl": '"É"}\n', "text": "É\n", "ctm": "1 0.00 0.10 É 0.9\n"}
    lines = [(head + ends[format_name]) * (1 + (format_name == "ctm")) for head in heads]
    path = tmp_path / "out"
    stopped = OneFile(path, format_name, heads, resume=False)
    for number in (3, 0, 4):
        stopped.write(number, lines[number])
    assert path.read_text() == lines[3] + lines[0] + lines[4]
    assert stopped._file is not None
    stopped._file.close()  # as the end of its process does

    resumed = OneFile(path, format_name, heads, resume=True)
    assert resumed.done == {3, 0} | ({4} if format_name != "ctm" else set())  # the last of a CTM may be cut off
    for number in sorted(set(range(5)) - resumed.done, reverse=True):
        resumed.write(number, lines[number])
    resumed.close()
    assert path.read_text() == "".join(lines)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_a_worker_does_not_see_is_named_with_the_machine(tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here.wav", tmp_path / "elsewhere.wav"
    here.touch()
    error = UserError("no such audio file; check the path")
    message = str(_placed(FileResult(elsewhere, None, error)).error)
    assert message.startswith(f"{error} (looked for on ")
    assert message.endswith("; all machines must see the files)")
    assert _placed(FileResult(here, None, error)).error is error
