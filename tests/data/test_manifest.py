"""Manifests and tables of every kind, whole files and segments, good and bad."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lact_asr_model.data.manifest import read_manifest
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import Reading, Utterance, load_samples
from lact_asr_model.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for name in ["one.wav", "two.wav"]:
        soundfile.write(tmp_path / "clips" / name, np.zeros(8000), 16000)
    return tmp_path


def write_manifest(folder: Path, *entries: object) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("".join(f"{entry if isinstance(entry, str) else json.dumps(entry)}\n" for entry in entries))
    return path


def test_manifest(folder: Path) -> None:
    path = write_manifest(
        folder,
        {"audio_filepath": "clips/one.wav", "text": "Hello, world", "duration": 1.25, "speaker": 7, "age": 30},
        "",
        {"audio_filepath": str(folder / "clips" / "two.wav"), "id": "second"},
    )
    assert read_manifest(path) == [
        Utterance("clips/one", folder / "clips/one.wav", "HELLO WORLD", duration_seconds=1.25, speaker="7"),
        Utterance("second", folder / "clips/two.wav", None, duration_seconds=0.5, speaker=None),
    ]


@pytest.mark.parametrize(
    ("bad_entry", "expected"),
    [
        ("{'audio_filepath'}", "not valid JSON"),
        ([1, 2], "is no JSON object"),
        ({"text": "A"}, "no 'audio_filepath'"),
        ({"audio_filepath": "clips/three.wav"}, "no audio file .*three.wav"),
        ({"audio_filepath": "clips/one.wav", "text": 5}, "'text' is 5"),
        ({"audio_filepath": "clips/one.wav", "duration": -1}, "'duration' is -1"),
        ({"audio_filepath": "clips/one.wav", "duration": "long"}, "'duration' is 'long'"),
        ({"audio_filepath": "clips/one.wav", "duration": float("nan")}, "'duration' is nan"),
        ({"audio_filepath": "clips/one.wav", "duration": True}, "'duration' is True"),
        ({"audio_filepath": "clips/one.wav", "duration": 1, "offset": -1}, "'offset' is -1"),
        ({"audio_filepath": "clips/one.wav", "duration": 1, "offset": "late"}, "'offset' is 'late'"),
        ({"audio_filepath": "clips/one.wav", "offset": 0.5}, "'offset' is 0.5, after the end of"),
    ],
)
def test_bad_line_is_named(folder: Path, bad_entry: object, expected: str) -> None:
    path = write_manifest(folder, {"audio_filepath": "clips/one.wav", "duration": 1}, bad_entry)
    with pytest.raises(UserError, match=rf"manifest\.jsonl line 2: {expected}") as caught:
        read_manifest(path)
    assert "\n" not in str(caught.value)


def test_a_segment_is_that_part_of_the_file_also_the_first(folder: Path) -> None:
    ramp = np.linspace(-0.5, 0.5, 3 * 16000).astype(np.float32)
    soundfile.write(folder / "long.wav", ramp, 16000, subtype="FLOAT")
    rows = [
        {"offset": 0, "duration": 1},
        {"offset": 1.25, "duration": "0.5"},
        {"offset": 2.0},  # to the end
        {"offset": 2.5, "duration": 0.55},  # times are rounded
        {"duration": 99.0},  # a wrong length of a whole file is no cut
    ]
    path = write_manifest(folder, *({"audio_filepath": "long.wav", **row} for row in rows))
    utterances = read_manifest(path)
    expected = [ramp[:16000], ramp[20000:28000], ramp[32000:], ramp[40000:], ramp]
    for utterance, samples in zip(utterances, expected, strict=True):
        np.testing.assert_allclose(load_samples(utterance), samples, atol=1e-6)
    assert [utterance.duration_seconds for utterance in utterances] == [1.0, 0.5, 1.0, 0.55, 99.0]
    assert len({utterance.id for utterance in utterances}) == 5
    (beyond,) = read_manifest(
        write_manifest(folder, {"audio_filepath": "long.wav", "offset": 2.5, "duration": 1, "id": "beyond"})
    )
    with pytest.raises(UserError, match=r"long\.wav: ends at 3\.00 s, before the segment does at 3\.50 s"):
        load_samples(beyond)


ROWS = [("clips/one.wav", 'She said: "Hi, there!"', "ann", "0.25"), ("clips/two.wav", "Naïve café", "bob", "0.5")]
EXPECTED = ["SHE SAID HI THERE", "NAIVE CAFE"]


def as_table(delimiter: str, columns: tuple[str, ...]) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows([columns, *ROWS])
    return file.getvalue()


COLUMNS = ("path", "sentence", "client_id", "duration")
OBJECTS = [dict(zip(("audio_filepath", "text", "speaker", "duration"), row, strict=True)) for row in ROWS]
CONTENTS = {
    "lines": "\n".join(map(json.dumps, OBJECTS)),
    "list": json.dumps(OBJECTS, indent=2, ensure_ascii=False),
    "other names": json.dumps([{"file": row[0], "transcript": row[1], "speaker_id": row[2]} for row in ROWS]),
    "commas": as_table(",", COLUMNS),
    "semicolons": as_table(";", ("Audio", " Text ", "speaker", "duration")),
    "bars": as_table("|", ("file_name", "transcription", "speaker", "duration")),
    "tabs": "path\tsentence\tclient_id\n" + "".join("\t".join(row[:3]) + "\n" for row in ROWS),
    "Windows ends of lines": as_table(",", COLUMNS).replace("\r\n", "\n").replace("\n", "\r\n"),
}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
@pytest.mark.parametrize("kind", CONTENTS)
def test_the_content_tells_the_kind_whatever_the_name(folder: Path, kind: str, suffix: str) -> None:
    (folder / f"data{suffix}").write_bytes(CONTENTS[kind].encode())
    utterances = read_utterances(f"data{suffix}", folder)
    assert [utterance.text for utterance in utterances] == EXPECTED
    assert [utterance.speaker for utterance in utterances] == ["ann", "bob"]
    assert [utterance.audio_path for utterance in utterances] == [folder / row[0] for row in ROWS]
    assert utterances[0].duration_seconds == (0.5 if kind in ("other names", "tabs") else 0.25)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize("kind", ["list", "tabs"])
def test_text_in_other_encodings_is_read_and_a_guess_is_told(
    folder: Path, kind: str, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "data.json").write_bytes(CONTENTS[kind].encode(encoding))
    assert [utterance.text for utterance in read_manifest(folder / "data.json")] == EXPECTED
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == (encoding == "cp1252")
    assert all("is not UTF-8, so it is read as Windows text" in line for line in warnings)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\x81\x8d{\xe9}", "is not text in UTF-8, UTF-16 or cp1252"),
        (json.dumps(OBJECTS).encode("utf-16-le"), "has no byte order mark"),
        (b"\xff\xfe{\x00\x22", "is not text in UTF-8"),
        (b'[{"audio_filepath": 3}', r"line 1: not valid JSON .*; write a list of objects"),
        (b"LJ001-0001|Printing, in the only sense|Printing\n", "no column for the audio; its first line must name"),
        (b'path,text\none.wav,"A\n' + b"x" * 200_000, "is no row of a table"),
    ],
)
def test_files_that_hold_no_manifest_are_one_line(folder: Path, content: bytes, expected: str) -> None:
    (folder / "data.csv").write_bytes(content)
    with pytest.raises(UserError, match=expected) as caught:
        read_manifest(folder / "data.csv")
    assert str(folder / "data.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(folder: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_manifest(folder / "missing")


def test_bad_items_are_left_out_and_told_if_somebody_listens(folder: Path) -> None:
    entries = [{"audio_filepath": f"clips/{name}.wav", "duration": 1} for name in ("one", "three", "two")]
    path = write_manifest(folder, *entries, "{")
    told: list[UserError] = []
    utterances = read_utterances(str(path), on_bad_item=told.append)
    assert [utterance.id for utterance in utterances] == ["clips/one", "clips/two"]
    assert [str(error).partition(": ")[0] for error in told] == [f"{path} line 2", f"{path} line 4"]


def test_every_file_is_measured_if_asked_for(folder: Path) -> None:
    entries = [{"duration": 9}, {"offset": 0.1, "duration": 0.2}, {"offset": 0.1, "duration": 0.9}]
    path = write_manifest(folder, *({"audio_filepath": "clips/one.wav", **entry} for entry in entries))
    told: list[UserError] = []
    measured: list[Path] = []

    def measure(audio_path: Path) -> float:
        measured.append(audio_path)
        return 0.75

    utterances = read_utterances(str(path), reading=Reading(measure=measure), on_bad_item=told.append)
    assert set(measured) == {folder / "clips/one.wav"} and len(measured) >= 3
    assert [utterance.duration_seconds for utterance in utterances] == [0.75, 0.2]
    assert "line 3: " in str(told[0]) and "before the segment clips/one@0.1 does at 1.00 s" in str(told[0])


def test_what_transcripts_lose_is_kept_and_numbers_can_be_spelled_out_first(folder: Path) -> None:
    path = write_manifest(folder, {"audio_filepath": "clips/one.wav", "text": "In 1984 we paid 5 € , 日本 (ok)"})
    (utterance,) = read_manifest(path)
    assert utterance.text == "IN WE PAID OK"
    assert utterance.lost_words == ("1984", "5", "€", "日本")
    spell_out = {"In 1984 we paid 5 € , 日本 (ok)": "in some year we paid five € (ok)"}.__getitem__
    (utterance,) = read_utterances(str(path), reading=Reading(spell_out=spell_out))
    assert (utterance.text, utterance.lost_words) == ("IN SOME YEAR WE PAID FIVE OK", ("€",))


TABLE = 'client_id\tpath\tsentence\tage\nabc\tone.wav\t"Hi, there!\t\ndef\ttwo.wav\tIt\'s "fine"\ttwenties\n'


def test_common_voice(folder: Path) -> None:
    (folder / "train.tsv").write_text(TABLE)
    assert read_manifest(folder / "train.tsv") == [
        Utterance("one", folder / "clips/one.wav", "HI THERE", duration_seconds=0.5, speaker="abc"),
        Utterance("two", folder / "clips/two.wav", "IT'S FINE", duration_seconds=0.5, speaker="def"),
    ]


def test_common_voice_with_a_table_of_durations(folder: Path) -> None:
    (folder / "train.tsv").write_text(TABLE)
    (folder / "clip_durations.tsv").write_text("clip\tduration[ms]\ntwo.wav\t4321\n")
    durations_seconds = [utterance.duration_seconds for utterance in read_manifest(folder / "train.tsv")]
    assert durations_seconds == [0.5, 4.321]
    (folder / "clip_durations.tsv").write_text("clip\tduration[ms]\ntwo.wav\tlong\n")
    with pytest.raises(UserError, match=r"clip_durations\.tsv line 2: .* no number"):
        read_manifest(folder / "train.tsv")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("sentence\tage\nA\t3\n", "no column for the audio"),
        ("path\tsentence\none.wav\tA\none.wav\n", "line 3: too few columns"),
        ("path\tsentence\nthree.wav\tA\n", "line 2: no audio file .*three.wav"),
    ],
)
def test_bad_table(folder: Path, table: str, expected: str) -> None:
    (folder / "train.tsv").write_text(table)
    with pytest.raises(UserError, match=rf"train\.tsv.* {expected}"):
        read_manifest(folder / "train.tsv")
