"""Exported models: the same answers as PyTorch's at every length, and everything that is needed to run without it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

import lact_asr_model as lact
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.acoustic_models.loading import as_acoustic_model
from lact_asr_model.acoustic_models.onnx_model import OnnxAcousticModel, load_onnx
from lact_asr_model.checkpoint_io import save_pretrained_folder
from lact_asr_model.commands import export, transcribe
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.export import onnx_export
from lact_asr_model.export.onnx_export import export_onnx
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

for _name in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(_name, reason=f"needs {_name} of the export extra")

REPOSITORY = Path(__file__).parents[2]
RATE_HZ = 16000
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None  # an import of them fails
from lact_asr_model.cli import main
main()
"""


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.05, 0.2, size=num_samples).astype(np.float32)


def make_model(processor: Wav2Vec2Processor, **changes: object) -> HybridASRForCTC:
    """The tiny model with an output layer that says letters."""
    fields = json.loads((REPOSITORY / "configs" / "tiny_asr_config.json").read_text())
    torch.manual_seed(0)
    model = HybridASRForCTC(HybridASRConfig(**{**fields, "vocab_size": len(processor.tokenizer), **changes})).eval()
    torch.nn.init.normal_(model.lm_head.weight, std=1.0)
    return model


@pytest.fixture(scope="module")
def checkpoint(processor: Wav2Vec2Processor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    save_pretrained_folder(folder, make_model(processor), processor)
    (folder / "decoding.json").write_text('{"lm_weight": 0.7, "word_score": 0.1, "lm_sha256": "0"}')
    return folder


@pytest.fixture(scope="module")
def exported_dir(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "tiny-onnx"
    export.main(["--onnx", str(folder), "--checkpoint", str(checkpoint)])
    return folder


@pytest.fixture
def graph_of_tiny(exported_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting gives the tiny model's graph, whatever the model, at once."""

    def copy_graph(model: object, path: Path) -> int:
        shutil.copy(exported_dir / "model.onnx", path)
        return 20

    monkeypatch.setattr(onnx_export, "_write_graph", copy_graph)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise(3 * RATE_HZ), RATE_HZ)
    return path


def run_without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True)


def difference(model: HybridAcousticModel, exported: OnnxAcousticModel, samples: np.ndarray) -> float:
    (expected,) = model.log_probs(*model.recognize(model.prepare([samples])))
    (found,) = exported.log_probs(*exported.recognize(exported.prepare([samples])))
    assert found.shape == tuple(expected.shape)
    return float(np.abs(found - expected.numpy()).max())


@pytest.mark.parametrize("num_samples", [400, 599, 600, 7777, 16000, 99999, 480000])
def test_the_graph_is_the_model_at_every_length(checkpoint: Path, exported_dir: Path, num_samples: int) -> None:
    model = lact.load(checkpoint)
    assert num_samples >= model.shortest_samples
    assert difference(model, load_onnx(exported_dir), noise(num_samples)) < 2e-3


def test_the_lengths_go_beyond_what_attention_and_memory_see_at_once(checkpoint: Path) -> None:
    config = lact.load(checkpoint).model.config
    assert config.num_frames(99999) > max(3 * config.window_size // 2, config.lact_chunk_size)


def test_the_folder_holds_what_is_needed_to_run_and_no_more(checkpoint: Path, exported_dir: Path) -> None:
    assert {path.name for path in exported_dir.iterdir()} == {"model.onnx", "export.json", "decoding.json"}
    content = json.loads((exported_dir / "export.json").read_text())
    model = lact.load(checkpoint)
    assert content["vocabulary"] == model.vocabulary
    assert content["source"] == str(checkpoint)
    assert content["sampling_rate_hz"] == RATE_HZ
    assert content["normalization"] == "zero_mean_unit_variance"
    assert content["weights"] == "float32"
    assert content["opset"] >= 18
    assert len(content["largest_differences"]) == 5
    assert not list(exported_dir.parent.glob(".*"))


def test_transcribing_needs_neither_torch_nor_transformers(
    checkpoint: Path, exported_dir: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--format", "jsonl", "--chunk_seconds", "1.5", str(recording)]
    transcribe.main(["--checkpoint", str(checkpoint), *options])
    expected = json.loads(capsys.readouterr().out)
    result = run_without_torch("transcribe", "--runtime", "onnx", "--checkpoint", str(exported_dir), *options)
    assert result.stderr == ""
    found = json.loads(result.stdout)
    assert found["hyp"] == expected["hyp"]
    assert len(found["hyp"]) > 10
    assert found["words"] == [pytest.approx(word, abs=2e-3) for word in expected["words"]]


def test_a_beam_and_a_data_set_need_them_as_little(
    checkpoint: Path, exported_dir: Path, librispeech_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ctc_beam_decoder", reason="needs the lm extra")
    data = ["--data_dir", str(librispeech_dir), "--subset", "dev-tiny", "--beam_size", "8", "--lm", "none"]
    transcribe.main([*data, "--checkpoint", str(checkpoint), "--output_dir", str(tmp_path / "torch")])
    runtime = ["--runtime", "onnx", "--num_threads", "1", "--checkpoint", str(exported_dir)]
    result = run_without_torch("transcribe", *data, *runtime, "--output_dir", str(tmp_path / "onnx"))
    assert result.returncode == 0, result.stderr
    expected, found = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("torch", "onnx"))
    assert found["characters"] == expected["characters"]
    assert found["run"]["num_threads"] == 1
    assert "onnxruntime" in found["run"]
    assert "torch" not in found["run"]


def test_what_needs_torch_says_so_in_one_line(recording: Path) -> None:
    result = run_without_torch("transcribe", str(recording))
    assert result.returncode == 2
    assert result.stderr == "error: torch: is not installed; run `pip install lact-asr`, or give --runtime onnx\n"


def test_adaptation_is_refused_in_one_line(exported_dir: Path, recording: Path) -> None:
    runtime = ["--runtime", "onnx", "--checkpoint", str(exported_dir)]
    result = run_without_torch("transcribe", "--use_ttt", *runtime, str(recording))
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: checkpoint {exported_dir}: an exported model cannot be adapted; ")
    assert len(result.stderr.splitlines()) == 1
    model = load_onnx(exported_dir)
    for adapt in (
        lambda: lact.adapt(model, noise(RATE_HZ)),
        lambda: lact.adapt(model, noise(RATE_HZ), lact.AdaptationOptions()),
        lambda: lact.Transcriber(model, ttt_options=lact.AdaptationOptions()).transcribe_samples([noise(RATE_HZ)]),
    ):
        with pytest.raises(UserError, match="an exported model cannot be adapted"):
            adapt()


def test_the_wrong_folder_for_a_runtime_is_one_line(
    checkpoint: Path, exported_dir: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error_of(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            transcribe.main([*arguments, str(recording)])
        return capsys.readouterr().err

    assert "is exported; `lact-asr transcribe --runtime onnx`" in error_of("--checkpoint", str(exported_dir))
    onnx = ["--runtime", "onnx"]
    assert "is no exported model; give a folder" in error_of(*onnx, "--checkpoint", str(checkpoint))
    assert "needs --checkpoint, a folder of `lact-asr export`" in error_of(*onnx)
    assert "an exported model runs on the CPU" in error_of(*onnx, "--checkpoint", str(exported_dir), "--device", "cuda")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "export.json").write_bytes((exported_dir / "export.json").read_bytes())
    (damaged / "model.onnx").write_bytes((exported_dir / "model.onnx").read_bytes()[:5000])
    assert "its model.onnx cannot be loaded" in error_of(*onnx, "--checkpoint", str(damaged))
    (damaged / "export.json").write_text('{"format_version": 2}')
    assert "is of format 2, which is unknown here" in error_of(*onnx, "--checkpoint", str(damaged))


def test_a_graph_that_is_not_the_model_is_not_left_behind(
    processor: Wav2Vec2Processor, tmp_path: Path, graph_of_tiny: None
) -> None:
    model = make_model(processor)
    with torch.no_grad():
        model.layers[1].memory.w1.mul_(1.5)
    with pytest.raises(UserError, match="its graph is not the model"):
        export_onnx(as_acoustic_model(model, processor), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_not_written_to(exported_dir: Path, checkpoint: Path) -> None:
    before = (exported_dir / "model.onnx").read_bytes()
    with pytest.raises(UserError, match="exists; name another folder"):
        export_onnx(lact.load(checkpoint), exported_dir)
    assert (exported_dir / "model.onnx").read_bytes() == before


def test_without_the_extra_the_install_command_is_told(
    checkpoint: Path, exported_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"runtime onnx: needs the export extra; run `pip install"):
        load_onnx(exported_dir)
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"export: needs the export extra; run `pip install"):
        export_onnx(lact.load(checkpoint), tmp_path / "out")


def test_8_bit_matrices_are_smaller_and_nearly_the_same(
    checkpoint: Path, exported_dir: Path, tmp_path: Path, graph_of_tiny: None
) -> None:
    model = lact.load(checkpoint)
    export_onnx(model, tmp_path / "small", int8=True)
    assert json.loads((tmp_path / "small" / "export.json").read_text())["weights"] == "int8"
    sizes = [(folder / "model.onnx").stat().st_size for folder in (exported_dir, tmp_path / "small")]
    assert sizes[1] < sizes[0]
    assert 1e-3 < difference(model, load_onnx(tmp_path / "small"), noise(30000)) < 2


def test_models_of_transformers_are_exported_too(
    wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor, tmp_path: Path
) -> None:
    model = as_acoustic_model(wav2vec2, processor)
    export_onnx(model, tmp_path / "wav2vec2")
    exported = load_onnx(tmp_path / "wav2vec2")
    for num_samples in (400, 7777, 100000):
        assert difference(model, exported, noise(num_samples)) < 2e-3


def test_a_log_mel_front_end_is_exported_too(processor: Wav2Vec2Processor, tmp_path: Path) -> None:
    model = as_acoustic_model(make_model(processor, use_wav2vec2_encoder=False), processor)
    export_onnx(model, tmp_path / "log-mel")
    for num_samples in (400, 7777, 100000):
        assert difference(model, load_onnx(tmp_path / "log-mel"), noise(num_samples)) < 2e-2
