"""A data set on the hub becomes shards."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import load_samples

datasets = pytest.importorskip("datasets")
pytest.importorskip("webdataset")

SCRIPT = """
import sys
from lact_asr_model.commands.pack_shards import main

speech = "hf:someone/speech"
for name in (f"{speech}:train", f"{speech}:test", f"{speech}/clean:train", "hf:nobody", "hf:someone/files"):
    try:
        main(["--subset", name, "--output_dir", f"{sys.argv[1]}/{name.replace('/', '-')}"])
    except SystemExit:
        pass
"""


def test_a_stream_is_packed_and_wrong_names_are_told(hub: Any, librispeech_dir: Path, tmp_path: Path) -> None:
    utterances = read_utterances("train-tiny", librispeech_dir)
    rows = {
        "audio": [{"bytes": u.audio_path.read_bytes(), "path": u.audio_path.name} for u in utterances],
        "transcription": [utterance.text for utterance in utterances],
    }
    dataset = datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio(decode=False))
    dataset.to_parquet(tmp_path / "train.parquet")
    content = (tmp_path / "train.parquet").read_bytes()
    hub.repositories["someone/speech"] = {"train-00000-of-00001.parquet": content, "README.md": b"# Speech\n"}
    files = {"0.flac": Path(utterances[0].audio_path).read_bytes(), "metadata.csv": b"file_name,text\n0.flac,a\n"}
    hub.repositories["someone/files"] = {**files, "README.md": b"# Files\n"}
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    errors = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in process.stderr and len(errors) == 4, process.stderr
    assert errors[0].startswith("error: hf:someone/speech:test: has no split 'test'; write one of :train")
    assert errors[1].startswith("error: hf:someone/speech/clean:train: cannot be read (BuilderConfig 'clean' not found")
    assert errors[2].startswith("error: hf:nobody: is no data set of the hub; write hf:OWNER/NAME")
    assert errors[3].startswith(
        "error: hf:someone/files: cannot be read (To support encoding audio data, please install"
    )
    assert "download it with `hf download --repo-type dataset` and name its table" in errors[3]

    found = read_utterances(str(tmp_path / "hf:someone-speech:train"))
    assert [utterance.text for utterance in found] == [utterance.text for utterance in utterances]
    for expected, actual in zip(utterances, found, strict=True):
        assert actual.id.endswith(expected.id)
        assert np.array_equal(load_samples(actual), load_samples(expected))
