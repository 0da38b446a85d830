"""What the page shows, without a page: transcripts, pictures, files to download, and one line for every mistake."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lact_asr_model as lact
from lact_asr_model.commands.demo import RECORDINGS_DIR
from lact_asr_model.errors import UserError
from lact_asr_model.recognition.transcript import FileResult, TimedWord, Transcript
from lact_asr_model.serving.web import handlers as handlers_module
from lact_asr_model.serving.web.handlers import Handlers, file_row, playable, write_transcripts
from lact_asr_model.serving.web.noises import CLEAN, WHITE, Noises
from lact_asr_model.serving.web.recogniser import Recogniser, Recognisers
from lact_asr_model.serving.web.word_marks import NOTHING

RECORDING = str(RECORDINGS_DIR / "1673-143397-0008.mp3")
OPTIONS = lact.AdaptationOptions(loss_type="entropy_mcc", parameters="front_end", front_end_step=0.05)


@pytest.fixture
def handlers(checkpoint_dir: Path, tmp_path: Path) -> Handlers:
    """With the tiny model, however the checkpoint is called that exists."""

    def load(name: str | None) -> Recogniser:
        return Recogniser(lact.load(name or checkpoint_dir), OPTIONS, beam_size=10)

    return Handlers(Recognisers(load), Noises(RECORDINGS_DIR / "noise", []), tmp_path)


@pytest.fixture
def broken_path(tmp_path: Path) -> Path:
    path = tmp_path / "broken <b>.wav"
    path.write_bytes(b"no audio" * 100)
    return path


def compare(handlers: Handlers, path: str | None = RECORDING, **changes: Any) -> tuple[Any, ...]:
    values: dict[str, Any] = {
        "kind": CLEAN, "snr_db": 5, "use_lm": False, "steps": 2, "step_factor": 1, "reference": "", "checkpoint": "",
    }  # fmt: skip
    return handlers.compare(path, **{**values, **changes})


def test_noise_is_heard_and_seen(handlers: Handlers) -> None:
    pytest.importorskip("matplotlib")
    message, (rate_hz, clean), picture = handlers.hear(RECORDING, CLEAN, 5)
    _, (_, noisy), noisy_picture = handlers.hear(RECORDING, WHITE, 5)
    assert (message, rate_hz, clean.dtype) == ("", 16000, np.int16)
    assert clean.shape == noisy.shape
    assert noisy.astype(float).std() > 1.1 * clean.astype(float).std()
    assert not np.array_equal(picture.axes[1].images[0].get_array(), noisy_picture.axes[1].images[0].get_array())
    assert handlers.hear(None, CLEAN, 5) == ("", None, None)


def test_audio_that_is_too_loud_is_made_quieter_and_no_other() -> None:
    assert playable(np.array([0.5, -1.0], dtype=np.float32))[1].tolist() == [16384, -32767]
    assert playable(np.array([1.0, -2.0], dtype=np.float32))[1].tolist() == [16384, -32767]
    assert playable(np.zeros(0, dtype=np.float32))[1].tolist() == []


def test_a_recording_is_compared(handlers: Handlers, checkpoint_dir: Path) -> None:
    pytest.importorskip("matplotlib")
    message, plain, adapted, plain_summary, adapted_summary, plain_words, adapted_words, curve = compare(
        handlers, steps=3, reference="At these blasphemous sounds"
    )
    assert message == ""
    model = lact.load(checkpoint_dir)
    (expected,) = lact.Transcriber(model).transcribe_files(RECORDING)
    assert expected.transcript is not None
    assert [word for word, _ in plain if word != NOTHING] == expected.transcript.text.split()
    assert [row[0] for row in plain_words] == expected.transcript.text.split()
    assert [word for word, _ in adapted if word != NOTHING] == [row[0] for row in adapted_words]
    assert "of 4 words" in plain_summary
    assert adapted_summary.startswith("3 steps on front end. **WER")
    assert all(len(axes.get_lines()[0].get_xdata()) == 4 for axes in curve.axes)


def test_the_size_of_the_steps_is_a_factor_of_the_models_own(handlers: Handlers) -> None:
    recogniser = handlers._recognisers.get("")
    samples = np.random.default_rng(0).normal(scale=0.1, size=16000).astype(np.float32)
    options = {"use_lm": False, "steps": 1}
    small, large = (recogniser.compare(samples, step_factor=factor, **options) for factor in (1, 4))
    assert large.options.front_end_step == 4 * OPTIONS.front_end_step
    assert small.step_points[0] == large.step_points[0]
    assert small.step_points[1] != large.step_points[1]
    assert recogniser.compare(samples, step_factor=1, reference="A B", **options).plain.errors is not None
    assert small.plain.errors is None


def test_another_checkpoint_is_loaded_by_its_name(handlers: Handlers, wav2vec2_dir: Path) -> None:
    pytest.importorskip("matplotlib")
    assert compare(handlers, checkpoint=f" {wav2vec2_dir} ")[0] == ""
    assert handlers._recognisers.get(str(wav2vec2_dir)).model.name == str(wav2vec2_dir)
    assert handlers._recognisers.get(str(wav2vec2_dir)) is handlers._recognisers.get(str(wav2vec2_dir))


def test_the_language_model_decodes(handlers: Handlers) -> None:
    pytest.importorskip("kenlm", reason="the lm extra is not installed")
    pytest.importorskip("matplotlib")
    from lact_asr_model.decoding.beam_search import LexiconDecoder

    assert compare(handlers, use_lm=True)[0] == ""
    assert isinstance(handlers._recognisers.get("").beam_searches[0], LexiconDecoder)


def assert_one_line(outputs: tuple[Any, ...], *parts: str) -> None:
    message, *others = outputs
    assert message.startswith("<p ") and message.endswith("</p>")
    assert "\n" not in message
    assert all(part in message for part in parts)
    assert others == [None] * len(others)


def test_a_mistake_is_one_line(
    handlers: Handlers, broken_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for outputs in (handlers.hear(str(broken_path), CLEAN, 5), compare(handlers, str(broken_path))):
        assert_one_line(outputs, ">broken &lt;b&gt;.wav: not a readable audio file")
        assert str(tmp_path) not in outputs[0]
    assert_one_line(compare(handlers, None), "there is none yet")
    assert_one_line(compare(handlers, checkpoint="nowhere"), "nowhere")
    assert_one_line(handlers.transcribe(print, None, True, False, ""), "there are none yet")
    monkeypatch.setattr(handlers_module, "LONGEST_SECONDS", 1)
    assert_one_line(handlers.hear(RECORDING, CLEAN, 5), "1673-143397-0008.mp3: 4 s are too long")
    assert len(compare(handlers, None)) == 8


def test_several_recordings_become_rows_and_files(handlers: Handlers, broken_path: Path) -> None:
    told: list[tuple[tuple[int, int], str]] = []
    paths = [RECORDING, str(broken_path), RECORDING]
    message, rows, files = handlers.transcribe(lambda *what: told.append(what), paths, True, False, "")
    assert message == ""
    assert [row[0] for row in rows] == ["1673-143397-0008", "broken <b>", "1673-143397-0008-2"]
    assert rows[1][3].startswith("broken <b>.wav: not a readable")
    assert [Path(file).name for file in files] == [
        "transcripts.jsonl", "1673-143397-0008.srt", "1673-143397-0008-2.srt",
    ]  # fmt: skip
    lines = [json.loads(line) for line in Path(files[0]).read_text().splitlines()]
    assert [(line["id"], line["hyp"]) for line in lines] == [(row[0], row[2]) for row in rows if row[1]]
    assert told[-1] == ((3, 3), "done")
    assert [done for (done, _), _ in told] == [0, 0, 1, 2, 3]


def test_downloads_hold_words_with_their_times(tmp_path: Path) -> None:
    transcript = Transcript("A B", [TimedWord("A", 0.5, 1.0, 0.9), TimedWord("B", 1.0, 1.5, 0.8)], 2.0)
    result = FileResult(tmp_path / "a.wav", transcript, warnings=(f"{tmp_path / 'a.wav'}: is cut",))
    assert file_row("a", result) == ["a", "2.0", "A B", "a.wav: is cut"]
    _, subtitles = write_transcripts(["a"], [result], tmp_path)
    assert subtitles.read_text() == "1\n00:00:00,500 --> 00:00:01,500\nA B\n\n"
    failed = FileResult(tmp_path / "b.wav", None, UserError("b.wav: is broken"))
    assert write_transcripts(["b"], [failed], tmp_path) == []
