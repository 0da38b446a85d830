"""The `lact-asr` command as a person types it."""

import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lact_asr_model import cli

REPOSITORY = Path(__file__).parents[1]
LACT_ASR = [sys.executable, "-m", "lact_asr_model.cli"]
RECORDING = REPOSITORY / "lact_asr_model" / "bundled_recordings" / "1673-143397-0007.mp3"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `lact-asr` with these arguments in a process of its own."""
    return subprocess.run([*LACT_ASR, *map(str, arguments)], capture_output=True, text=True, cwd=REPOSITORY)


def test_help_names_every_program_and_is_quick() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = run("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0
    assert all(name in result.stdout for name in cli.PROGRAMS)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.7  # seconds of CPU


def loaded_of(modules: set[str], *arguments: str) -> str:
    """Which of these modules `lact-asr` has loaded when it is done with these arguments, in a process of its own."""
    script = (
        f"import sys; sys.argv = ['lact-asr', *{arguments}]\n"
        "from lact_asr_model.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print('loaded:', *({modules} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return result.stdout.splitlines()[-1].removeprefix("loaded:").strip()


def test_help_loads_neither_torch_nor_transformers() -> None:
    assert loaded_of({"torch", "transformers", "numpy"}, "--help") == ""


def test_the_first_transcript_loads_nothing_that_it_does_not_need() -> None:
    needless = {"scipy", "sympy", "torch._dynamo", "torch.distributed.tensor", "transformers.modeling_utils"}
    assert loaded_of({*needless, "torch"}, "transcribe", str(RECORDING)) == "torch"


@pytest.mark.parametrize("has_triton", [False, True])
def test_garbage_is_left_at_the_end_unless_triton_would_report_it(has_triton: bool) -> None:
    load = "sys.modules['triton'] = None" if has_triton else "sys.modules.pop('triton', None)"
    code = f"import gc, sys; from lact_asr_model import cli; {load}; cli._leave_garbage(); print(gc.get_freeze_count())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert (int(printed) == 0) == has_triton


@pytest.mark.parametrize("name", cli.PROGRAMS)
def test_each_program_lists_its_options(name: str) -> None:
    result = run(name, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith(f"usage: lact-asr {name} ")


def test_train_and_its_launcher_are_one_program() -> None:
    launcher = subprocess.run(
        [sys.executable, "training/train_hybrid_asr.py", "--help"], capture_output=True, text=True, cwd=REPOSITORY
    )
    flags = [word for word in launcher.stdout.split() if word.startswith("--")]
    assert flags == [word for word in run("train", "--help").stdout.split() if word.startswith("--")]
    assert "--peak_lr" in flags


def test_a_mistake_is_one_line_and_exit_code_2() -> None:
    result = run("evaluate", "--subset", "test-clean", "--conditions", "fog")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: condition 'fog': unknown")
    assert result.stderr.count("\n") == 1


def test_an_unknown_command_is_exit_code_2() -> None:
    result = run("transcibe")
    assert result.returncode == 2
    assert "transcibe" in result.stderr


def test_ctrl_c_is_exit_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def main(arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, cli.PROGRAMS["train"][0], SimpleNamespace(main=main))
    with pytest.raises(SystemExit) as exit_:
        cli.run_program("train", [])
    assert exit_.value.code == 130
    assert "Traceback" not in capsys.readouterr().err


def test_arguments_and_exit_code_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def main(arguments: list[str]) -> None:
        seen.extend(arguments)
        raise SystemExit(2)

    monkeypatch.setitem(sys.modules, cli.PROGRAMS["transcribe"][0], SimpleNamespace(main=main))
    arguments = ["a b.wav", "--use_ttt", "-", "--beam_size", "50", "--output=x y", "--", "-a.mp3"]
    with pytest.raises(SystemExit) as exit_:
        cli.app(["transcribe", *arguments], standalone_mode=False)
    assert seen == arguments
    assert exit_.value.code == 2
