import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2Processor

from lact_asr_model.checkpoint_io import (
    load_best_model,
    load_checkpoint,
    save_atomically,
    save_best_model,
    save_pretrained_folder,
)
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.text import build_vocabulary, make_processor

VOCABULARY = build_vocabulary("ABC")


@pytest.fixture
def processor() -> Wav2Vec2Processor:
    return make_processor(VOCABULARY)


@pytest.fixture
def model(tiny_config: HybridASRConfig) -> HybridASRForCTC:
    tiny_config.vocab_size = len(VOCABULARY)
    torch.manual_seed(0)
    return HybridASRForCTC(tiny_config)


@pytest.fixture
def folder(tmp_path: Path, model: HybridASRForCTC, processor: Wav2Vec2Processor) -> Path:
    save_pretrained_folder(tmp_path / "model", model, processor)
    return tmp_path / "model"


def assert_same_model(first: HybridASRForCTC, second: HybridASRForCTC) -> None:
    torch.testing.assert_close(dict(first.state_dict()), dict(second.state_dict()), rtol=0, atol=0)
    assert first.config.to_diff_dict() == second.config.to_diff_dict()
    samples = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(first.eval()(samples).logits, second(samples).logits, rtol=0, atol=0)


def test_a_folder_comes_back_as_it_was(folder: Path, model: HybridASRForCTC, processor: Wav2Vec2Processor) -> None:
    loaded, loaded_processor = load_checkpoint(folder)
    assert not loaded.training
    assert_same_model(model, loaded)
    assert loaded_processor.tokenizer.get_vocab() == VOCABULARY
    assert loaded_processor.feature_extractor.to_dict() == processor.feature_extractor.to_dict()
    assert {"config.json", "model.safetensors", "processor_config.json", "vocab.json"} <= set(os.listdir(folder))
    assert_same_model(model, HybridASRForCTC.from_pretrained(folder).eval())


def test_compact_shards_come_back_in_single_precision(
    tmp_path: Path, model: HybridASRForCTC, processor: Wav2Vec2Processor
) -> None:
    options = {"max_shard_size": "20KB", "compact": True, "model_card": "# Card\n"}
    save_pretrained_folder(tmp_path / "model", model, processor, **options)
    shards = list((tmp_path / "model").glob("*.safetensors"))
    assert len(shards) > 1
    assert (tmp_path / "model" / "README.md").read_text() == "# Card\n"
    stored = {name: weight for shard in shards for name, weight in load_file(shard).items()}
    for name in ("attention.q_proj", "memory.out_proj", "feed_forward.0"):
        assert stored[f"layers.1.{name}.weight"].dtype is torch.float8_e4m3fn
    for name in ("layers.1.memory.w0", "layers.1.memory.lr_proj.weight", "lm_head.weight", "lm_head.bias"):
        assert stored[name].dtype is torch.float16
    assert {weight.dtype for weight in stored.values()} == {torch.float8_e4m3fn, torch.float16}
    rounded = {name: weight.to(stored[name].dtype).float() for name, weight in model.state_dict().items()}
    loaded, _ = load_checkpoint(tmp_path / "model")
    torch.testing.assert_close(dict(loaded.state_dict()), rounded, rtol=0, atol=0)
    hub_style = HybridASRForCTC.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(dict(hub_style.state_dict()), rounded, rtol=0, atol=0)


def test_a_single_file_comes_back_as_it_was(tmp_path: Path, model: HybridASRForCTC) -> None:
    path = tmp_path / "best_model.pt"
    save_best_model(path, model, VOCABULARY)
    assert set(torch.load(path, weights_only=True)) == {"config", "vocabulary", "state_dict"}
    loaded, vocabulary = load_best_model(path)
    assert vocabulary == VOCABULARY
    assert_same_model(model, loaded)
    from_checkpoint, processor = load_checkpoint(path)
    assert_same_model(model, from_checkpoint)
    assert processor.tokenizer.get_vocab() == VOCABULARY


def test_intermediate_heads_are_kept_in_every_kind_of_checkpoint(
    tmp_path: Path, tiny_config: HybridASRConfig, processor: Wav2Vec2Processor
) -> None:
    fields = {**tiny_config.to_dict(), "vocab_size": len(VOCABULARY), "num_hidden_layers": 3}
    model = HybridASRForCTC(HybridASRConfig(**{**fields, "intermediate_ctc_layers": [1, 2]}))
    save_pretrained_folder(tmp_path / "folder", model, processor)
    save_pretrained_folder(tmp_path / "compact", model, processor, compact=True)
    save_best_model(tmp_path / "best_model.pt", model, VOCABULARY)
    for name in ("folder", "compact", "best_model.pt"):
        loaded, _ = load_checkpoint(tmp_path / name)
        assert list(loaded.config.intermediate_ctc_layers) == [1, 2]
        assert list(loaded.intermediate_heads) == ["1", "2"]
        for tensor_name, tensor in model.intermediate_heads.state_dict().items():
            expected = tensor.half().float() if name == "compact" else tensor
            assert torch.equal(loaded.intermediate_heads.state_dict()[tensor_name], expected), (name, tensor_name)


def test_saving_again_replaces_the_whole_folder(
    folder: Path, model: HybridASRForCTC, processor: Wav2Vec2Processor
) -> None:
    (folder / "left_over.txt").write_text("from the first time")
    with torch.no_grad():
        model.lm_head.bias.fill_(3.0)
    save_pretrained_folder(folder, model, processor)
    assert torch.equal(load_checkpoint(folder)[0].lm_head.bias, model.lm_head.bias)
    assert not (folder / "left_over.txt").exists()
    assert os.listdir(folder.parent) == ["model"]


def test_a_kill_between_the_renames_loses_nothing(
    folder: Path, model: HybridASRForCTC, processor: Wav2Vec2Processor
) -> None:
    shutil.copytree(folder, folder.with_name("model.partial"))
    folder.rename(folder.with_name("model.previous"))
    assert_same_model(model, load_checkpoint(folder)[0])
    save_pretrained_folder(folder, model, processor)
    assert os.listdir(folder.parent) == ["model"]


WRITER = """
import sys, torch
from lact_asr_model.checkpoint_io import *
from lact_asr_model.text import make_processor
model, vocabulary = load_best_model(sys.argv[1] + "/best_model.pt")
processor = make_processor(vocabulary)
print("ready", flush=True)
while True:
    save_best_model(sys.argv[1] + "/best_model.pt", model, vocabulary)
    save_pretrained_folder(sys.argv[1] + "/model", model, processor)
"""


def test_a_kill_at_any_moment_leaves_a_model(folder: Path, model: HybridASRForCTC) -> None:
    save_best_model(folder.parent / "best_model.pt", model, VOCABULARY)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder.parent)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    for _ in range(10):
        time.sleep(0.013)
        writer.send_signal(signal.SIGSTOP)  # what a kill at this moment would leave
        os.waitpid(writer.pid, os.WUNTRACED)
        assert_same_model(model, load_checkpoint(folder)[0])
        assert_same_model(model, load_best_model(folder.parent / "best_model.pt")[0])
        writer.send_signal(signal.SIGCONT)
    writer.kill()
    writer.communicate()
    assert_same_model(model, load_checkpoint(folder)[0])


def test_a_file_is_never_half_written(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_atomically(path, {"step": 1})
    with pytest.raises(Exception, match="pickle"):
        save_atomically(path, {"step": 2, "cannot be saved": lambda: None})
    assert torch.load(path, weights_only=True) == {"step": 1}


def error_of(path: Path) -> str:
    with pytest.raises(UserError) as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"checkpoint {path}: ")
    return str(error.value).removeprefix(f"checkpoint {path}: ")


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert error_of(tmp_path / "nowhere").startswith("no such file or folder; ")
    assert error_of(tmp_path).startswith("has no config.json; ")


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "model.safetensors"])
def test_a_file_is_missing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert error_of(folder).startswith(f"has no {name}; ")


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "model.safetensors"])
def test_a_file_is_damaged(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    assert error_of(folder).startswith(f"its {name} is ")


def test_a_model_of_another_kind(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    assert error_of(folder).startswith("holds a model of type 'wav2vec2'; it must be 'hybrid_asr'")


def test_the_vocabulary_of_another_model(folder: Path) -> None:
    (folder / "vocab.json").write_text(json.dumps(build_vocabulary("ABCDE")))
    assert error_of(folder).startswith("its vocabulary has 8 symbols and its model 6; ")


def test_a_vocabulary_whose_blank_is_elsewhere(folder: Path) -> None:
    (folder / "vocab.json").write_text(json.dumps({symbol: 5 - index for symbol, index in VOCABULARY.items()}))
    assert error_of(folder).startswith("its vocabulary must number its symbols from 0, with <pad> = 0; ")


def test_weights_that_do_not_fit(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.bias"]
    save_file(weights, folder / "model.safetensors")
    message = error_of(folder)
    assert message.startswith("weights and configuration do not fit (")
    assert "lm_head.bias" in message


def test_files_that_are_no_best_model(tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    path.write_bytes(b"not a checkpoint")
    assert error_of(path).startswith("is not a PyTorch checkpoint; ")
    torch.save({"state_dict": {}}, path)
    assert error_of(path).startswith("is not of this recogniser; ")
