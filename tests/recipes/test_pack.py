"""Data to another machine and results back: `recipes/small/pack.py`."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from lact_asr_model.audio import audio_duration_seconds, load_audio
from lact_asr_model.data.librispeech import read_librispeech
from lact_asr_model.data.manifest import read_manifest
from lact_asr_model.errors import UserError

SCRIPT = Path(__file__).parents[2] / "recipes" / "small" / "pack.py"


@pytest.fixture(scope="module")
def packing() -> ModuleType:
    """The script as a module."""
    specification = importlib.util.spec_from_file_location("pack", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def write_tone(path: Path, hz: float, seconds: float = 1.0, **options: float | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.3 * np.sin(2 * np.pi * hz * np.arange(int(16000 * seconds)) / 16000)
    soundfile.write(path, samples, 16000, **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A LibriSpeech subset in FLAC, a manifest with a recording elsewhere, a small recording, a room."""
    root = tmp_path / "data"
    for number, hz in enumerate((300, 600)):
        write_tone(root / "LibriSpeech" / "train-mini" / "19" / "7" / f"19-7-000{number}.flac", hz)
    (root / "LibriSpeech" / "train-mini" / "19" / "7" / "19-7.trans.txt").write_text("19-7-0000 A\n19-7-0001 B\n")
    write_tone(root / "speech" / "near.wav", 900)
    write_tone(root / "speech" / "small.opus", 1200, format="OGG", subtype="OPUS", compression_level=0.96)
    write_tone(tmp_path / "elsewhere" / "far.wav", 1500)
    rows = [
        {"audio_filepath": "near.wav", "text": "NEAR", "speaker": "x"},
        {"audio_filepath": str(tmp_path / "elsewhere" / "far.wav"), "text": "FAR"},
        {"audio_filepath": "small.opus", "text": "SMALL"},
    ]
    (root / "speech" / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_tone(root / "rir" / "room.wav", 100, seconds=0.1)
    return root


def main_frequency_hz(path: Path) -> float:
    samples = load_audio(path)
    return float(np.abs(np.fft.rfft(samples)).argmax() * 16000 / len(samples))


def test_what_is_unpacked_takes_the_place_of_what_was_packed(
    packing: ModuleType, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packs, unpacked = tmp_path / "packs", tmp_path / "unpacked"
    packing.main(["pack", str(root), str(packs), "--speech", "LibriSpeech", "speech", "--verbatim", "rir"])
    packing.main(["unpack", str(packs), str(unpacked)])
    assert "1 tar files" in capsys.readouterr().out

    book = read_librispeech(unpacked, "train-mini")
    assert [(utterance.text, utterance.audio_path.suffix) for utterance in book] == [("A", ".opus"), ("B", ".opus")]
    speech = read_manifest(unpacked / "speech" / "manifest.jsonl")
    assert [utterance.text for utterance in speech] == ["NEAR", "FAR", "SMALL"]
    assert speech[0].speaker == "x"
    for utterance, hz in zip([*book, *speech], (300, 600, 900, 1500, 1200), strict=True):
        assert utterance.audio_path.is_relative_to(unpacked)
        assert main_frequency_hz(utterance.audio_path) == pytest.approx(hz, abs=2)
        assert audio_duration_seconds(utterance.audio_path) == pytest.approx(1.0, abs=1e-3)
    for name in ("speech/small.opus", "rir/room.wav"):
        assert (unpacked / name).read_bytes() == (root / name).read_bytes()


def test_bit_rate_of_speech(packing: ModuleType, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(scale=0.1, size=10 * 16000)
    soundfile.write(tmp_path / "noise.flac", samples, 16000)
    assert len(packing.encode_opus(tmp_path / "noise.flac")) * 8 / 10 == pytest.approx(24_000, rel=0.15)


def test_packs_are_filled_in_order_up_to_their_bound(packing: ModuleType, root: Path, tmp_path: Path) -> None:
    for number in range(10):
        (root / "noise").mkdir(exist_ok=True)
        (root / "noise" / f"{number}.bin").write_bytes(bytes([number]) * 10_000)
    entries = list(packing.list_verbatim(root, "noise"))
    paths = packing.pack(entries, tmp_path / "packs", "data", max_bytes=50_000)
    assert [path.name for path in paths] == ["data-000.tar", "data-001.tar", "data-002.tar", "data-003.tar"]
    assert all(path.stat().st_size <= 50_000 for path in paths)
    packing.unpack(tmp_path / "packs", tmp_path / "unpacked")
    for number in range(10):
        content = (tmp_path / "unpacked" / "noise" / f"{number}.bin").read_bytes()
        assert content == bytes([number]) * 10_000


def test_a_file_that_no_pack_can_hold(packing: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(bytes(50_000))
    entries = list(packing.list_verbatim(tmp_path, "large.bin"))
    with pytest.raises(UserError, match="large.bin.*too many"):
        packing.pack(entries, tmp_path / "packs", "data", max_bytes=50_000)


def test_nothing_to_pack_or_to_unpack(packing: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no files"):
        list(packing.list_speech(tmp_path, "missing"))
    with pytest.raises(UserError, match="no tar files"):
        packing.unpack(tmp_path, tmp_path / "unpacked")


def test_pieces_join_to_the_same_file(packing: ModuleType, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(1000)
    (tmp_path / "state.pt").write_bytes(bytes(5000))
    packing.shard(tmp_path / "state.pt", tmp_path / "shards", max_bytes=300)
    (tmp_path / "state.pt").write_bytes(content)  # a shorter file leaves none of the pieces of a longer one
    pieces = packing.shard(tmp_path / "state.pt", tmp_path / "shards", max_bytes=300)
    assert [piece.stat().st_size for piece in pieces] == [300, 300, 300, 100]
    packing.join(tmp_path / "shards", tmp_path / "back" / "state.pt")
    assert (tmp_path / "back" / "state.pt").read_bytes() == content


def test_a_lost_or_damaged_piece_is_noticed(packing: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(bytes(range(200)))
    *_, last = packing.shard(tmp_path / "state.pt", tmp_path / "shards", max_bytes=100)
    kept = last.read_bytes()
    for damage in (lambda: last.unlink(), lambda: last.write_bytes(kept[::-1])):
        damage()
        with pytest.raises(UserError, match="missing or damaged"):
            packing.join(tmp_path / "shards", tmp_path / "back" / "state.pt")
        assert not list((tmp_path / "back").iterdir())
    last.write_bytes(kept)
    packing.join(tmp_path / "shards", tmp_path / "back" / "state.pt")
    with pytest.raises(UserError, match="not there"):
        packing.join(tmp_path / "shards", tmp_path / "back" / "other.pt")
