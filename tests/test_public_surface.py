"""`import lact_asr_model as lact`: what it offers, and that the examples of the documentation run."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

import lact_asr_model as lact
from lact_asr_model.errors import UserError

REPOSITORY = Path(__file__).parents[1]
RECORDING = REPOSITORY / "lact_asr_model" / "bundled_recordings" / "1673-143397-0008.mp3"
HUB_ID = "facebook/wav2vec2-base-960h"
OPTIONS = lact.AdaptationOptions(loss_type="entropy", parameters="front_end+norms", steps=2)


def examples(name: str) -> list[str]:
    """The Python blocks of a document."""
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / name).read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def samples() -> np.ndarray:
    return np.random.default_rng(0).normal(scale=0.1, size=12000).astype(np.float32)


def test_all_names_are_there() -> None:
    assert sorted(lact.__all__) == lact.__all__
    for name in lact.__all__:
        assert getattr(lact, name).__name__ == name
        assert name in dir(lact)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lact.nothing  # noqa: B018


def test_the_import_is_light() -> None:
    script = "import sys, lact_asr_model; print(sorted({'torch', 'transformers', 'numpy', 'av'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("name", ["README.md", "docs/adapt_your_model.md"])
def test_the_examples_of_the_documentation_run(name: str, wav2vec2_dir: Path, capsys) -> None:
    code = "\n".join(examples(name))
    assert code
    for old, new in ((HUB_ID, wav2vec2_dir), ("talk.mp3", RECORDING), ("speech.wav", RECORDING)):
        code = code.replace(f'"{old}"', repr(str(new)))
    exec(compile(code, name, "exec"), {})
    assert capsys.readouterr().out.strip()


def test_a_model_that_one_holds_is_adapted_and_stays_as_it_is(
    wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor, samples: np.ndarray
) -> None:
    wav2vec2.train()
    before = {name: tensor.clone() for name, tensor in wav2vec2.state_dict().items()}
    adaptation = lact.adapt(wav2vec2, samples, OPTIONS, processor=processor)
    assert adaptation.is_adapted.all()
    assert adaptation.losses.shape == (2, 1)
    assert wav2vec2.training
    assert all(parameter.requires_grad for parameter in wav2vec2.parameters())
    for name, tensor in wav2vec2.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_an_adapted_copy_answers_as_the_adaptation_and_shares_what_did_not_move(
    wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor, samples: np.ndarray
) -> None:
    adaptation = lact.adapt(wav2vec2, samples, OPTIONS, processor=processor)
    copy = lact.adapted(wav2vec2, samples, OPTIONS, processor=processor)
    assert type(copy) is Wav2Vec2ForCTC
    inputs = processor.feature_extractor(samples, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(copy(inputs.input_values).logits, adaptation.logits)
        assert not torch.equal(copy(inputs.input_values).logits, wav2vec2.eval()(inputs.input_values).logits)
    originals = dict(wav2vec2.named_parameters())
    for name, parameter in copy.named_parameters():
        is_shared = parameter.data_ptr() == originals[name].data_ptr()
        assert is_shared == (name not in adaptation.weights)


def test_audio_that_cannot_be_adapted_to_is_one_line(
    wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor, samples: np.ndarray
) -> None:
    with pytest.raises(UserError, match="399 samples are too short for a frame; give 400"):
        lact.adapt(wav2vec2, samples[:399], processor=processor)
    with pytest.raises(UserError, match=r"has the shape \[2, 6000\]; give one recording"):
        lact.adapt(wav2vec2, samples.reshape(2, -1), processor=processor)
    with pytest.raises(UserError, match="no such file"):
        lact.adapt(wav2vec2, "nowhere.wav", processor=processor)


def test_evaluate_gives_what_the_command_writes(checkpoint_dir: Path, librispeech_dir: Path, tmp_path: Path) -> None:
    results = lact.evaluate(
        str(checkpoint_dir),
        "dev-tiny",
        data_dir=librispeech_dir,
        conditions="clean,gaussian:0.01",
        methods="none,ttt:1",
        output_dir=tmp_path,
    )
    rows = {(row["condition"], row["method"]) for row in results["results"]}
    assert rows == {(c, m) for c in ("clean", "gaussian:0.01") for m in ("none", "ttt:1")}
    assert (tmp_path / "results.json").is_file()
    with pytest.raises(UserError, match="method 'fog': unknown"):
        lact.evaluate(str(checkpoint_dir), "dev-tiny", data_dir=librispeech_dir, methods="fog")
