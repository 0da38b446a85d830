"""What the pages say to type: Python runs or at least compiles, and every `lact-asr` command parses."""

import argparse
import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import lact_asr_model as lact
from lact_asr_model import cli
from lact_asr_model.data.conditions import parse_conditions
from lact_asr_model.evaluation.methods import parse_methods

REPOSITORY = Path(__file__).parents[2]
LOG = "docs/EXPERIMENTS.md"  # its commands are those of the time of each entry
PAGES = ["README.md", *sorted(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("docs/*.md"))]
PAGES += ["recipes/librispeech/README.md", "recipes/small/README.md"]
LAUNCHERS = {
    "training/train_hybrid_asr.py": "train",
    "inference/hybrid_asr_inference.py": "transcribe",
    "inference/ttt_procedure.py": "adapt",
}
RECORDING = REPOSITORY / "lact_asr_model" / "bundled_recordings" / "1673-143397-0008.mp3"


class ParsedError(Exception):
    """The command's parser took the arguments; the rest of the command is not run."""


def blocks(page: str, *languages: str) -> Iterator[str]:
    """The code blocks of a page in one of the languages; "" is a block that names none."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    for indent, language, code in re.findall(
        r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", text, flags=re.DOTALL | re.MULTILINE
    ):
        if language in languages:
            yield re.sub(f"^{indent}", "", code, flags=re.MULTILINE)


def shell_lines(page: str) -> Iterator[list[str]]:
    """The words of each line of a page that calls a program of this repository."""
    for block in blocks(page, "", "bash", "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"([A-Z_]+=\S+ |\.venv/bin/)*(lact-asr|python|torchrun|recipes/)", line):
                yield shlex.split(line, comments=True)


def commands() -> Iterator[tuple[str, str, list[str]]]:
    """Page, name and arguments of every command of `lact-asr`, also by its launchers."""
    for page in PAGES:
        if page == LOG:
            continue
        for words in shell_lines(page):
            for position, word in enumerate(words):
                if word.endswith(("lact-asr", "lact_asr_model.cli")) and len(words) > position + 1:
                    yield page, words[position + 1], words[position + 2 :]
                    break
                if word in LAUNCHERS:
                    yield page, LAUNCHERS[word], words[position + 1 :]
                    break


COMMANDS = list(commands())


def test_the_commands_of_the_pages_are_found() -> None:
    found = {(page, name) for page, name, _ in COMMANDS}
    assert {("docs/index.md", "transcribe"), ("docs/evaluate_robustness.md", "evaluate")} <= found
    assert {("docs/train.md", "train"), ("docs/figures.md", "tune-lm"), ("docs/serving.md", "serve")} <= found
    assert {("recipes/librispeech/README.md", "train"), ("docs/TTT.md", "evaluate")} <= found


def parsed(name: str, arguments: list[str]) -> argparse.Namespace:
    """What a command's own parser makes of its arguments; after `...` there may be more, and what is required too."""
    is_beginning = arguments[-1:] == ["..."]
    parse = argparse.ArgumentParser.parse_known_args

    def parse_and_stop(self: argparse.ArgumentParser, args: list[str] | None = None, namespace: object = None) -> None:
        for action in self._actions:
            action.required = action.required and not is_beginning
        raise ParsedError(*parse(self, args, namespace))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse_and_stop)
        patch.setattr("sys.argv", ["lact-asr"])
        with pytest.raises(ParsedError) as stop:
            cli.run_program(name, arguments[:-1] if is_beginning else arguments)
    namespace, unknown = stop.value.args
    assert unknown == []
    return namespace


@pytest.mark.parametrize(
    ("page", "name", "arguments"), COMMANDS, ids=[f"{page}: {name} {' '.join(rest)}" for page, name, rest in COMMANDS]
)
def test_a_command_of_a_page_is_one_that_its_parser_takes(
    page: str, name: str, arguments: list[str], tmp_path: Path
) -> None:
    assert name in cli.PROGRAMS
    options = parsed(name, arguments)
    if name == "evaluate" and arguments != ["..."]:  # its lists have a grammar of their own
        shutil.copy(RECORDING, tmp_path)
        folders = {key: vars(options)[key] and tmp_path for key in ("noise_dir", "impulse_response_dir")}
        parse_conditions(options.conditions, **folders, babble_paths=[tmp_path] if options.babble_dir else ())
        parse_methods(options.methods, options.steps)


@pytest.mark.parametrize("page", PAGES)
def test_a_script_that_a_page_calls_is_there(page: str) -> None:
    if page != LOG:
        for words in shell_lines(page):
            for word in words:
                if re.fullmatch(r"(recipes|benchmarks|studies|training|inference|tests)/\S+\.(py|sh)", word):
                    assert (REPOSITORY / word).is_file(), word


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_names_what_there_is(page: str) -> None:
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lact":
                assert node.attr in lact.__all__


@pytest.mark.parametrize("page", ["docs/index.md", "docs/concepts.md", "docs/api.md"])
def test_the_python_of_a_page_runs(page: str, checkpoint_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(blocks(page, "python")).replace("lact.load()", f"lact.load({str(checkpoint_dir)!r})")
    exec(compile(code.replace('"speech.wav"', repr(str(RECORDING))), page, "exec"), {})
    assert bool(capsys.readouterr().out.strip()) == ("print" in code)


def test_the_evaluation_of_its_page_runs(
    checkpoint_dir: Path, librispeech_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks("docs/evaluate_robustness.md", "python")
    for old, new in (("MODEL_FOLDER", checkpoint_dir), ("dev.jsonl", "dev-tiny"), ("DATA_DIR", librispeech_dir)):
        code = code.replace(f'"{old}"', repr(str(new)))
    exec(compile(code, "docs/evaluate_robustness.md", "exec"), {})
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert lines == [[condition, method] for condition in ("clean", "gaussian:0.01") for method in ("none", "ttt:1")]
