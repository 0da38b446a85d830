"""What people have lost by an output file, an interruption or an odd name, each as a test."""

import io
import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lact_asr_model.commands.transcribe import main

NUM_RECORDINGS = 40
FORMATS = ("jsonl", "text", "ctm", "vtt")
_SERVER = """
import json, os, signal, sys, time
from lact_asr_model import cli
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.commands import transcribe
from lact_asr_model.recognition import transcriber
from lact_asr_model.data import sources
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2CTCTokenizer, Wav2Vec2Processor
prepare = HybridAcousticModel.prepare
def prepare_after_a_pause(model, recordings):
    time.sleep(job["pause_seconds"])
    return prepare(model, recordings)
HybridAcousticModel.prepare = prepare_after_a_pause
for line in sys.stdin:
    job = json.loads(line)
    process_id = os.fork()
    if process_id == 0:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
        os.chdir(job["folder"])
        for descriptor, path in ((0, os.devnull), (1, job["stdout"]), (2, job["stderr"])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if descriptor else os.O_RDONLY), descriptor)
        cli.run_program("transcribe", job["arguments"])
        sys.exit()
    print(process_id, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]), flush=True)
"""


class Job:
    """A running `transcribe`, which pauses before each recording."""

    def __init__(
        self, server: subprocess.Popen, arguments: list[str], folder: Path, stdout: str, pause_seconds: float
    ) -> None:
        self._server = server
        self._stderr_path = folder / ".stderr"
        self._stderr_path.unlink(missing_ok=True)
        self._stdout_path = Path(stdout) if os.path.isabs(stdout) else folder / stdout
        job = {"arguments": arguments, "folder": str(folder), "pause_seconds": pause_seconds}
        job |= {"stdout": str(self._stdout_path), "stderr": str(self._stderr_path)}
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        self._process_id = int(server.stdout.readline())

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._process_id, number)

    def wait(self) -> int:
        """The exit code; a negative one is the signal that ended it."""
        return int(self._server.stdout.readline())

    @property
    def errors(self) -> str:
        return self._stderr_path.read_text()


Start = Callable[..., Job]


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen]:
    """A process that has imported everything, and forks for every job."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    yield process
    process.kill()  # the end of its input would not be seen while a loader's process, forked meanwhile, holds it open
    process.wait()


@pytest.fixture
def start(server: subprocess.Popen, checkpoint_dir: Path, tmp_path: Path) -> Start:
    """Start `transcribe` with the tiny model in `tmp_path`."""

    def start_job(
        *arguments: object, stdout: str = ".stdout", checkpoint: Path = checkpoint_dir, pause_seconds: float = 0.0
    ) -> Job:
        words = ["--checkpoint", str(checkpoint), "--num_threads", "1", *map(str, arguments)]
        return Job(server, words, tmp_path, stdout, pause_seconds)

    return start_job


def write_tone(path: Path, number: int = 0, seconds: float = 0.4) -> Path:
    """A recording of its own for every number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    time_seconds = np.arange(round(seconds * 16000)) / 16000
    samples = 0.3 * np.sin(2 * np.pi * rng.uniform(150, 1500) * time_seconds) + rng.normal(0, 0.02, len(time_seconds))
    soundfile.write(str(path.parent / "tone.wav"), samples.astype(np.float32), 16000)
    os.rename(path.parent / "tone.wav", path)  # libsndfile takes no names that are not UTF-8
    return path


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if is_so():
            return
        time.sleep(0.001)
    raise AssertionError("it did not happen")


@pytest.fixture
def run(checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`transcribe` with the tiny model, in this process and in `tmp_path`; gives the exit code."""
    monkeypatch.chdir(tmp_path)

    def transcribe(*arguments: object) -> int:
        try:
            main(["--checkpoint", str(checkpoint_dir), *map(str, arguments)])
        except SystemExit as exit_:
            return exit_.code
        return 0

    return transcribe


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """A folder of 40 very short recordings in two folders, each name twice."""
    for number in range(NUM_RECORDINGS):
        write_tone(tmp_path / "batch" / f"part{number // 20}" / f"{number % 20:02}.wav", number, seconds=0.8)
    return tmp_path / "batch"


def contents(path: Path) -> dict[str, bytes]:
    """Everything in a file, or in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def size_bytes(path: Path) -> int:
    """Of everything finished in a file or a folder, which may be in use."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.suffix in (".txt", ".vtt")]
    return sum(file.stat().st_size for file in files)


def wait_for_bytes(path: Path, num_bytes: float) -> None:
    wait_until(lambda: size_bytes(path) >= num_bytes)


# 01: an output that is an input, or somebody else's


@pytest.mark.parametrize("flags", [(), ("--overwrite",), ("--resume",)])
@pytest.mark.parametrize("format_name", ["text", "srt"])
def test_an_output_that_is_an_input_is_refused_before_anything_is_read(
    run, tmp_path, capsys, flags, format_name
) -> None:
    recording = write_tone(tmp_path / "2.wav")
    write_tone(tmp_path / "folder" / "3.wav")
    (tmp_path / "link.txt").symlink_to(recording)
    (tmp_path / "hard.txt").hardlink_to(recording)
    before = contents(tmp_path)
    for inputs, output in (
        (["2.wav"], "2.wav"),
        (["2.wav"], "./folder/../2.wav"),
        (["2.wav"], "link.txt"),
        (["2.wav"], "hard.txt"),
        (["folder"], "folder/3.wav"),
        (["folder/*.wav"], "folder/3.wav"),
    ):
        assert run(*inputs, "--output", output, "--format", format_name, "--checkpoint", "never_loaded", *flags) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {Path(output)}: is the input")
    assert contents(tmp_path) == before


def test_a_glob_that_the_shell_expands_behind_output_harms_nothing(run, tmp_path, capsys) -> None:
    for name in ("1.wav", "2.wav"):
        write_tone(tmp_path / name)
    before = contents(tmp_path)
    assert run("--output", "1.wav", "2.wav") == 2
    assert capsys.readouterr().err.startswith("error: 1.wav: exists; give --overwrite")
    assert run("--output", "1.wav", "2.wav", "--overwrite") == 2
    assert capsys.readouterr().err.startswith("error: 1.wav: is not a text file, so it is not overwritten")
    assert contents(tmp_path) == before


def test_an_input_of_a_manifest_and_the_manifest_itself_are_inputs(run, tmp_path, capsys) -> None:
    write_tone(tmp_path / "1.wav")
    (tmp_path / "set.jsonl").write_text('{"audio_filepath": "1.wav", "text": "A", "duration": 0.4}\n')
    before = contents(tmp_path)
    for output in ("1.wav", "set.jsonl"):
        assert run("--data_dir", ".", "--subset", "set.jsonl", "--output", output, "--overwrite") == 2
        assert f"error: {output}: is the input" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_an_existing_file_is_kept_unless_it_may_be_overwritten(run, tmp_path, capsys) -> None:
    for name in ("a.wav", "b.wav"):
        write_tone(tmp_path / name)
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "b.srt").write_text("corrected by hand\n")
    (tmp_path / "notes.txt").write_text("mine\n")
    before = contents(tmp_path)
    for flags in (
        ("--output", "notes.txt"),
        ("--output_dir", "o", "--format", "srt"),
        ("--output", "notes.txt", "--resume"),
    ):
        assert run("a.wav", "b.wav", *flags) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "--overwrite" in line
        assert contents(tmp_path) == before
    assert run("a.wav", "b.wav", "--output_dir", "o", "--format", "srt", "--resume") == 0
    assert (tmp_path / "o" / "b.srt").read_text() == "corrected by hand\n"
    assert (tmp_path / "o" / "a.srt").read_text().startswith("1\n00:00:00,")
    assert run("a.wav", "b.wav", "--output_dir", "o", "--format", "srt", "--overwrite") == 0
    assert (tmp_path / "o" / "b.srt").read_text().startswith("1\n00:00:00,")
    assert run("a.wav", "b.wav", "--output", "notes.txt", "--overwrite") == 0
    assert [line.split("\t")[0] for line in (tmp_path / "notes.txt").read_text().splitlines()] == ["a.wav", "b.wav"]


# 02: pipes, devices, links


@pytest.mark.parametrize("format_name", ["text", "srt"])
def test_a_pipe_or_a_device_is_written_to_and_stays(run, tmp_path, capsys, format_name) -> None:
    write_tone(tmp_path / "b.wav")
    assert run("b.wav", "--format", format_name, "--output", "-") == 0
    expected = capsys.readouterr().out
    assert len(expected) > 1
    os.mkfifo(tmp_path / "p")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "p").read_text()))
    reader.start()
    assert run("b.wav", "--format", format_name, "--output", "p") == 0
    reader.join()
    assert got == [expected]
    assert stat.S_ISFIFO((tmp_path / "p").stat().st_mode)

    assert run("b.wav", "--format", format_name, "--output", "/dev/null") == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    (tmp_path / "link").symlink_to("target")
    assert run("b.wav", "--format", format_name, "--output", "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == expected
    assert run("b.wav", "--format", format_name, "--output", "/dev/stdout") == 0
    assert capsys.readouterr().out == expected
    assert run("b.wav", "--format", format_name, "--output", "/dev/full") == 2
    assert capsys.readouterr().err.startswith("error: /dev/full: cannot be written (No space left on device)")


# 12: interruptions


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("place", ["--output", "--output_dir"])
def test_what_is_finished_is_kept_and_gone_on_with(start, run, batch, tmp_path, number, code, place) -> None:
    assert run(batch, place, "whole") == 0
    job = start(batch, place, "out", pause_seconds=0.02)  # so that the signal comes in time on a busy machine, too
    out = tmp_path / "out"
    wait_for_bytes(out, size_bytes(tmp_path / "whole") / 8)
    job.signal(number)
    assert job.wait() == code
    found = contents(out)
    num_finished = len(found) if out.is_dir() else found["."].count(b"\n")
    assert 1 < num_finished < NUM_RECORDINGS
    told = [
        f"interrupted; {number} of 40 transcripts are in out; --resume goes on\n"
        for number in (num_finished, num_finished - 1)
    ]
    assert job.errors in told  # it may come when a transcript is there and not yet counted
    assert all(content.endswith(b"\n") for content in found.values())
    assert run(batch, place, "out", "--resume") == 0
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_while_the_model_is_loaded_is_one_line(start, tmp_path, number, code) -> None:
    write_tone(tmp_path / "a.wav")
    (tmp_path / "slow").mkdir()
    os.mkfifo(tmp_path / "slow" / "config.json")
    job = start("a.wav", "--output", "out", checkpoint=tmp_path / "slow")

    def is_read() -> bool:
        try:
            os.close(os.open(tmp_path / "slow" / "config.json", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody has opened the pipe to read it
            return False
        return True

    wait_until(is_read)
    job.signal(number)
    assert (job.wait(), job.errors) == (code, "interrupted\n")
    assert not (tmp_path / "out").exists()


def kill_and_resume(start: Callable, run: Callable, batch: Path, tmp_path: Path, num_moments: int, seed: int) -> None:
    """SIGKILL at random moments; what the two runs have made is what one makes, byte for byte."""
    rng = random.Random(seed)
    num_killed = 0
    for moment in range(num_moments):
        format_name, batch_size = FORMATS[moment % len(FORMATS)], 3 if moment % 3 == 2 else 1
        place = "--output_dir" if format_name == "vtt" else "--output"
        flags = (batch, "--format", format_name, "--batch_size", batch_size, place)
        whole, out = tmp_path / f"whole.{format_name}{batch_size}", tmp_path / f"out{moment}"
        if not whole.exists():
            assert run(*flags, whole) == 0
        job = start(*flags, out, "--resume")
        wait_for_bytes(out, rng.random() * size_bytes(whole))
        time.sleep(0.01 * rng.random())
        job.signal(signal.SIGKILL)
        num_killed += job.wait() == -signal.SIGKILL
        assert run(*flags, out, "--resume") == 0
        assert contents(out) == contents(whole), (moment, format_name)
    assert num_killed > num_moments / 2


def test_a_kill_at_three_moments_changes_no_byte(start, run, batch, tmp_path) -> None:
    kill_and_resume(start, run, batch, tmp_path, num_moments=3, seed=1)


@pytest.mark.slow
def test_a_kill_at_twenty_moments_changes_no_byte(start, run, batch, tmp_path) -> None:
    kill_and_resume(start, run, batch, tmp_path, num_moments=20, seed=2)


def test_what_is_done_is_not_decoded_again(run, batch, tmp_path, capsys, monkeypatch) -> None:
    from lact_asr_model.recognition.transcriber import Transcriber

    assert run(batch, "--output", "out", "--format", "jsonl") == 0
    whole = (tmp_path / "out").read_bytes()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "out").write_bytes(b"".join(lines[:38]) + lines[38][:30])
    heard = []
    recognize = Transcriber.begin
    monkeypatch.setattr(Transcriber, "begin", lambda self, batch: heard.append(len(batch)) or recognize(self, batch))
    assert run(batch, "--output", "out", "--format", "jsonl", "--resume") == 0
    assert (tmp_path / "out").read_bytes() == whole
    assert heard == [1, 1]
    assert run(batch, "--output", "out", "--format", "jsonl", "--resume", "--checkpoint", "never_loaded") == 0
    assert run("batch/part0", "--output", "out", "--format", "jsonl", "--resume") == 2
    assert run(batch, "--output", "out", "--format", "text", "--resume") == 2
    assert capsys.readouterr().err.count("out: is not a part of these transcripts in this format") == 2
    assert (tmp_path / "out").read_bytes() == whole


def test_a_data_set_goes_on_where_it_was(run, batch, tmp_path, capsys) -> None:
    entries = [{"audio_filepath": str(path), "text": "A BAD", "duration": 0.8} for path in sorted(batch.rglob("*.wav"))]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    flags = ("--data_dir", ".", "--subset", "set.jsonl", "--batch_size", 2)
    assert run(*flags, "--output_dir", "whole", "--format", "ctm", "--output", "whole.ctm") == 0
    capsys.readouterr()
    lines = (tmp_path / "whole" / "transcripts.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "transcripts.jsonl").write_bytes(b"".join(lines[:21]) + lines[21][:-1])
    (tmp_path / "out.ctm").write_bytes((tmp_path / "whole.ctm").read_bytes()[:1000])
    assert run(*flags, "--output_dir", "out") == 2
    assert "out/transcripts.jsonl: exists" in capsys.readouterr().err
    resumed = (*flags, "--output_dir", "out", "--format", "ctm", "--output", "out.ctm", "--resume")
    assert run(*resumed) == 0
    assert "40 utterances, 0.5 min, 21 of them transcribed before" in capsys.readouterr().out
    assert (tmp_path / "out" / "transcripts.jsonl").read_bytes() == b"".join(lines)
    assert (tmp_path / "out.ctm").read_bytes() == (tmp_path / "whole.ctm").read_bytes()
    whole, out = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "out"))
    assert (whole["num_resumed"], out["num_resumed"]) == (0, 21)
    for results in (whole, out):
        for name in ("num_resumed", "rtfx", "compute_seconds"):
            del results[name]
    assert out == whole
    assert run(*resumed) == 0  # nothing is left to do
    assert run(*resumed, "--seed", 1) == 2
    assert "results.json: has seed 0, not 1" in capsys.readouterr().err
    assert run(*flags, "--format", "text", "--output", "out.txt", "--resume") == 2
    assert "give --output_dir too" in capsys.readouterr().err
    assert run(*flags, "--output_dir", "new", "--output", "new/transcripts.jsonl") == 2
    assert "new/transcripts.jsonl: is a file of --output_dir" in capsys.readouterr().err


# 15: names and terminals that are not UTF-8


def test_a_name_that_is_not_utf8_ends_nothing(run, tmp_path, capsys) -> None:
    names = ["a.wav", os.fsdecode(b"caf\xe9.wav"), "z.wav"]
    for number, name in enumerate(names):
        write_tone(tmp_path / "work" / name, number)
    assert run("work") == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
        "work/a.wav",
        "work/caf\\udce9.wav",
        "work/z.wav",
    ]
    assert run("work", "--format", "jsonl", "--output", "out.jsonl") == 0
    lines = (tmp_path / "out.jsonl").read_bytes().decode("utf-8").splitlines()
    assert [os.fsencode(json.loads(line)["path"]) for line in lines] == [
        b"work/a.wav",
        b"work/caf\xe9.wav",
        b"work/z.wav",
    ]
    assert run("work", "--format", "jsonl", "--output", "out.jsonl", "--resume") == 0
    assert run("work", "--output_dir", "o") == 0
    assert sorted(os.listdir(os.fsencode(tmp_path / "o"))) == [b"a.txt", b"caf\xe9.txt", b"z.txt"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_is_not_utf8_ends_nothing(run, tmp_path, capsys, monkeypatch, encoding) -> None:
    write_tone(tmp_path / "日本.wav")
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    assert run("日本.wav", "日本\N{GRINNING FACE}.wav") == 1
    assert run("日本.wav", "--format", "jsonl") == 0
    text, json_line = stdout.buffer.getvalue().splitlines()
    assert text.startswith(b"\\u65e5\\u672c.wav\t")
    assert json.loads(json_line)["path"] == "日本.wav"
    assert capsys.readouterr().err.count("\n") == 1


# 19: the same name in several folders


def test_the_tree_is_kept(run, batch, tmp_path) -> None:
    assert run(batch, "--output_dir", "o", "--format", "srt") == 0
    assert sorted(contents(tmp_path / "o")) == [f"part{part}/{name:02}.srt" for part in range(2) for name in range(20)]
    assert run("batch/*/07.wav", "--output_dir", "glob") == 0
    assert sorted(contents(tmp_path / "glob")) == ["part0/07.txt", "part1/07.txt"]
    assert run("batch/part0/07.wav", "batch/part1/07.wav", "batch/part1/08.wav", "--output_dir", "files") == 0
    assert sorted(contents(tmp_path / "files")) == ["08.txt", "part0/07.txt", "part1/07.txt"]


def test_ids_in_one_file_differ(run, batch, capsys) -> None:
    shutil.copy(batch / "part0" / "00.wav", batch / "part0" / "0 0.wav")
    for format_name in ("jsonl", "ctm"):
        assert run("batch/part0/0 0.wav", "batch/part0/00.wav", "batch/part1/00.wav", "--format", format_name) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["id"] for line in lines[:3]] == ["0 0", "part0/00", "part1/00"]
    assert list(dict.fromkeys(line.split(" ")[0] for line in lines[3:])) == ["0_0", "part0/00", "part1/00"]
    assert {len(line.split(" ")) for line in lines[3:]} == {6}


# 22: names with a dash, very long names


def test_names_with_a_dash_or_very_long_ones_work(start, run, tmp_path) -> None:
    write_tone(tmp_path / "-dash.wav")
    for words in (("--", "-dash.wav"), ("./-dash.wav",)):
        job = start(*words)
        assert (job.wait(), job.errors) == (0, "")
        assert len((tmp_path / ".stdout").read_text()) > 1
    for name in ("a", "x" * 248, "x" * 250 + "y", "x" * 250 + "z", "z"):
        write_tone(tmp_path / "w" / f"{name}.wav")
    assert run("w", "--output_dir", "o", "--format", "jsonl") == 0
    names = sorted(contents(tmp_path / "o"))
    assert len(names) == 5
    assert names[0] == "a.jsonl"
    assert names[-1] == "z.jsonl"
    assert "x" * 248 + ".jsonl" in names
    ids = {json.loads(content)["id"] for content in contents(tmp_path / "o").values()}
    assert ids == {"a", "x" * 248, "x" * 250 + "y", "x" * 250 + "z", "z"}


# a full disk, a closed pipe


def test_a_full_disk_is_one_line_and_loses_nothing(run, batch, tmp_path, capsys) -> None:
    assert run(batch, "--output", "whole", "--format", "jsonl") == 0
    whole = (tmp_path / "whole").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // 2, limits[1]))
    try:
        assert run(batch, "--output", "out", "--format", "jsonl") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (line,) = capsys.readouterr().err.splitlines()
    kept = (tmp_path / "out").read_bytes()
    num_kept = kept.count(b"\n")
    assert whole.startswith(kept)
    assert kept.endswith(b"\n")
    assert line.startswith("error: out: cannot be written (File too large); free some space")
    assert line.endswith(f"; {num_kept} of 40 transcripts are in out; --resume goes on")
    assert 10 < num_kept < 30
    assert run(batch, "--output", "out", "--format", "jsonl", "--resume") == 0
    assert (tmp_path / "out").read_bytes() == whole


def test_stdout_on_a_full_disk_is_one_line(start, batch) -> None:
    job = start(batch, stdout="/dev/full")
    assert job.wait() == 2
    assert job.errors == "error: output: cannot be written (No space left on device); free some space\n"


def test_a_reader_that_leaves_is_a_quiet_end(start, batch, tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    first: list[str] = []

    def read_one_line() -> None:
        with (tmp_path / "pipe").open() as pipe:
            first.append(pipe.readline())

    reader = threading.Thread(target=read_one_line)
    reader.start()
    job = start(batch, stdout="pipe")
    reader.join()
    assert first[0].startswith(f"{batch}/part0/00.wav\t")
    assert (job.wait(), job.errors) == (141, "")
