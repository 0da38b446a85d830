"""A model goes to the hub with its card, and comes back from there whichever way one asks for it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from transformers import Wav2Vec2Processor

import lact_asr_model as lact
from lact_asr_model.checkpoint_io import save_pretrained_folder
from lact_asr_model.errors import UserError
from lact_asr_model.export.model_card import make_card
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

NAME = "someone/tiny"
CARD = """---
license: cc-by-4.0
language: en
---
# Tiny

Trained on tones.
"""
RESULTS = {
    "wer": 0.125,
    "wer_interval": [0.1, 0.15],
    "num_scored": 12,
    "settings": {"subset": "dev-tiny", "beam_size": 1, "ttt": None},
}
SCRIPT = """
import json
import sys

from transformers import AutoModelForCTC, pipeline

import lact_asr_model as lact
from lact_asr_model.audio import load_audio

checkpoint, results, audio, name = sys.argv[1:]
address = lact.push_to_hub(checkpoint, name, results=[results], token="hf_a")
model = lact.load(name)
(by_us,) = lact.Transcriber(model).transcribe_files([audio])
by_class = AutoModelForCTC.from_pretrained(name)
recognise = pipeline("automatic-speech-recognition", model=name)
samples = load_audio(audio, model.sampling_rate)  # a file's name would need the program ffmpeg
by_pipeline = recognise(samples, chunk_length_s=1.0, stride_length_s=0.2, return_timestamps="word")
refusals = []
for action in (lambda: lact.push_to_hub(checkpoint, "forbidden/tiny", token="hf_a"), lambda: lact.load("no/where")):
    try:
        action()
    except ValueError as error:
        refusals.append(str(error))
print(json.dumps({
    "address": address,
    "kind": type(model).__name__,
    "steps": model.default_options.steps,
    "class": type(by_class).__name__,
    "text": by_us.transcript.text,
    "pipeline": by_pipeline,
    "refusals": refusals,
}))
"""


@pytest.fixture
def checkpoint(decisive_model: HybridASRForCTC, processor: Wav2Vec2Processor, tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    save_pretrained_folder(folder, decisive_model, processor, model_card=CARD)
    (folder / "adaptation.json").write_text('{"steps": 7}')
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RESULTS))
    return path


def test_a_model_comes_back_from_the_hub_in_every_way(
    hub: Any, checkpoint: Path, results: Path, tmp_path: Path
) -> None:
    audio = tmp_path / "noise.wav"
    soundfile.write(audio, 0.1 * torch.randn(40000, generator=torch.Generator().manual_seed(0)).numpy(), 16000)
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(checkpoint), str(results), str(audio), NAME],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout.splitlines()[-1])

    files = hub.repositories[NAME]
    assert {"config.json", "model.safetensors", "vocab.json", "README.md", "adaptation.json"} <= set(files)
    assert found["address"] == f"{hub.endpoint}/{NAME}"
    assert found["kind"] == "HybridAcousticModel"
    assert found["steps"] == 7
    assert found["class"] == "HybridASRForCTC"
    (expected,) = lact.Transcriber(lact.load(checkpoint)).transcribe_files([audio])
    assert expected.transcript is not None
    assert found["text"] == expected.transcript.text
    assert len(found["text"]) > 5

    words = found["pipeline"]["chunks"]
    assert [word["text"] for word in words] == found["pipeline"]["text"].split()
    times = [time for word in words for time in word["timestamp"]]
    assert times == sorted(times)
    assert 2.0 < times[-1] <= 2.5

    forbidden, missing = found["refusals"]
    assert forbidden.startswith("forbidden/tiny: cannot be uploaded (")
    assert missing.startswith("checkpoint no/where: cannot be loaded as a CTC model (")
    assert "\n" not in forbidden + missing


def test_the_card_says_what_it_is_how_good_under_which_licence_and_how_to_use_it(
    checkpoint: Path, results: Path
) -> None:
    from huggingface_hub import ModelCard

    model = lact.load(checkpoint)
    earlier = ModelCard.load(checkpoint / "README.md")
    text = make_card(NAME, model.model, model.vocabulary, results=[results], earlier=earlier)
    card = ModelCard(text)
    assert card.data.license == "cc-by-4.0"
    assert card.data.language == "en"
    assert card.data.pipeline_tag == "automatic-speech-recognition"
    assert "| blocks | 2 of width 32 |" in text
    assert "`dev-tiny`, greedy: word error rate 12.5 % (10.0 to 15.0) over 12 utterances." in text
    assert f'model="{NAME}"' in text
    assert text.endswith("# Tiny\n\nTrained on tones.\n")
    assert (
        ModelCard(make_card(NAME, model.model, model.vocabulary, license="mit", earlier=earlier)).data.license == "mit"
    )


def test_what_cannot_go_there_is_told_before_anything_does(
    checkpoint: Path, wav2vec2_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is no model of this package"):
        lact.push_to_hub(wav2vec2_dir, NAME)
    with pytest.raises(UserError, match=r"nothing.json: cannot be read \(No such file or directory\)"):
        lact.push_to_hub(checkpoint, NAME, results=[tmp_path / "nothing.json"])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="is no results.json with error rates"):
        lact.push_to_hub(checkpoint, NAME, results=[tmp_path / "other.json"])
