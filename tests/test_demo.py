"""`lact-asr demo`: the page that `make run` shows, and the recordings that it shows."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile

from lact_asr_model.commands import transcribe
from lact_asr_model.commands.demo import RECORDINGS_DIR, WIDTH, main
from lact_asr_model.text import normalize_text


@pytest.fixture
def two_recordings_dir(tmp_path: Path) -> Path:
    """A folder like the bundled one, with its first two recordings only."""
    folder = tmp_path / "recordings"
    shutil.copytree(RECORDINGS_DIR, folder)
    lines = (folder / "manifest.jsonl").read_text().splitlines(keepends=True)
    (folder / "manifest.jsonl").write_text("".join(lines[:2]))
    return folder


def test_the_page(checkpoint_dir: Path, two_recordings_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--checkpoint", str(checkpoint_dir), "--recordings_dir", str(two_recordings_dir)])
    page = capsys.readouterr().out
    lines = page.splitlines()
    assert all(len(line) <= WIDTH for line in lines if str(checkpoint_dir) not in line)
    assert "\x1b" not in page
    for line in (two_recordings_dir / "manifest.jsonl").read_text().splitlines():
        assert json.loads(line)["text"].split()[0] in page
    for condition in ("clean", "noise 5 dB"):
        for method in ("plain", "plain+LM", "adapted", "adapted+LM"):
            shown = [line for line in lines if line.strip().startswith(f"{condition:<12}{method:<11}")]
            assert len(shown) == 2 + 1  # each recording, and the summary


def test_the_last_line_is_a_command_that_works(
    checkpoint_dir: Path, two_recordings_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--checkpoint", str(checkpoint_dir), "--recordings_dir", str(two_recordings_dir)])
    program, command, *arguments = capsys.readouterr().out.splitlines()[-1].split()
    assert (program, command, arguments[-1]) == (".venv/bin/lact-asr", "transcribe", "FILE")
    transcribe.main([*arguments[:-1], str(next(two_recordings_dir.glob("*.mp3")))])
    (transcript,) = capsys.readouterr().out.splitlines()
    assert transcript == normalize_text(transcript)


@pytest.mark.parametrize(
    ("arguments", "missing"), [(["--checkpoint", "nowhere"], "nowhere"), (["--recordings_dir", "nowhere"], "nowhere")]
)
def test_what_is_missing_is_named(arguments: list[str], missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert missing in line


def test_the_bundled_recordings_are_what_their_manifest_says() -> None:
    entries = [json.loads(line) for line in (RECORDINGS_DIR / "manifest.jsonl").read_text().splitlines()]
    credits = (RECORDINGS_DIR / "CREDITS.md").read_text()
    assert 8 <= len(entries) <= 12
    for entry in entries:
        info = soundfile.info(RECORDINGS_DIR / entry["audio_filepath"])
        assert info.duration == pytest.approx(entry["duration"], abs=0.01)
        assert entry["text"] == normalize_text(entry["text"])
        assert entry["speaker"] in credits
    audio = {path.name for path in RECORDINGS_DIR.glob("*.mp3")}
    assert audio == {entry["audio_filepath"] for entry in entries}
    assert sum(path.stat().st_size for path in RECORDINGS_DIR.rglob("*") if path.is_file()) < 1_000_000
