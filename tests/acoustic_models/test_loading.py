"""`load` and `as_acoustic_model`: whatever the name or object, an acoustic model of the right kind."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForCTC, Wav2Vec2Model, Wav2Vec2Processor

import lact_asr_model.acoustic_models.hugging_face as hugging_face
from lact_asr_model.acoustic_models.hugging_face import HuggingFaceAcousticModel
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.acoustic_models.loading import as_acoustic_model, load
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.procedure import adapt
from lact_asr_model.checkpoint_io import BUNDLED_MODEL_DIR, save_best_model
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.recognition.transcriber import Transcriber

SAMPLES = 0.1 * np.random.default_rng(0).standard_normal(9000, dtype=np.float32)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """The names that the Hugging Face path is asked for."""
    names: list[tuple[str, str | None]] = []

    def load_hugging_face(name: str, language: str | None) -> SimpleNamespace:
        names.append((name, language))
        return SimpleNamespace(folder=None, default_options=None)

    monkeypatch.setattr(hugging_face, "load_hugging_face", load_hugging_face)
    return names


class TestLoad:
    @pytest.mark.parametrize("as_text", [False, True])
    def test_a_folder_of_this_package(self, checkpoint_dir: Path, tiny_model: HybridASRForCTC, as_text: bool) -> None:
        model = load(str(checkpoint_dir) if as_text else checkpoint_dir)
        assert isinstance(model, HybridAcousticModel)
        assert model.is_batched
        assert model.folder == checkpoint_dir
        assert torch.equal(model.model.lm_head.weight, tiny_model.lm_head.weight)
        assert not model.model.training
        assert not any(parameter.requires_grad for parameter in model.model.parameters())
        assert model.vocabulary[:5] == ["<pad>", "<unk>", "|", "'", "A"]
        assert model.frame_seconds == 0.02
        assert model.shortest_samples == 400

    def test_a_best_model_pt(self, tiny_model: HybridASRForCTC, processor: Wav2Vec2Processor, tmp_path: Path) -> None:
        save_best_model(tmp_path / "best_model.pt", tiny_model, processor.tokenizer.get_vocab())
        model = load(tmp_path / "best_model.pt")
        assert isinstance(model, HybridAcousticModel)
        assert model.folder == tmp_path
        assert torch.equal(model.model.lm_head.weight, tiny_model.lm_head.weight)

    def test_nothing_is_the_bundled_model(self) -> None:
        model = load()
        assert isinstance(model, HybridAcousticModel)
        assert model.folder == BUNDLED_MODEL_DIR
        assert model.default_options.steps == json.loads((BUNDLED_MODEL_DIR / "config.json").read_text())["ttt_steps"]

    def test_a_folder_of_another_kind(self, wav2vec2_dir: Path) -> None:
        assert isinstance(load(wav2vec2_dir), HuggingFaceAcousticModel)

    def test_a_name_with_one_slash_is_looked_for_on_the_hub(
        self, asked: list[tuple[str, str | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        load("somebody/wav2vec2-base")
        load("somebody/mms-1b-all", language="deu")
        assert asked == [("somebody/wav2vec2-base", None), ("somebody/mms-1b-all", "deu")]

    @pytest.mark.parametrize("name", ["nowhere", "runs/nowhere", "runs/best_model.pt", "a/b/c", "other/best_model.pt"])
    def test_a_path_that_is_not_there_is_not_looked_for_elsewhere(
        self, asked: list[tuple[str, str | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "runs").mkdir()
        for path in (name, str(tmp_path / name)):
            with pytest.raises(UserError, match="no such file or folder"):
                load(path)
        assert asked == []

    def test_a_folder_that_a_killed_training_has_left_half_renamed_is_found(
        self, checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(checkpoint_dir, tmp_path / "runs" / "best_model.previous")
        monkeypatch.chdir(tmp_path)
        assert isinstance(load("runs/best_model"), HybridAcousticModel)

    def test_our_models_have_no_languages(self, checkpoint_dir: Path) -> None:
        with pytest.raises(UserError, match="language deu: this model has no languages to choose from; leave it out"):
            load(checkpoint_dir, language="deu")

    @pytest.mark.parametrize("content", ["{", "[1]", '"text"'])
    def test_a_folder_with_a_damaged_configuration_is_taken_for_ours(self, checkpoint_dir: Path, content: str) -> None:
        (checkpoint_dir / "config.json").write_text(content)
        with pytest.raises(UserError, match="its config.json is not"):
            load(checkpoint_dir)

    def test_an_old_configuration_with_what_is_retired_is_read(self, checkpoint_dir: Path) -> None:
        path = checkpoint_dir / "config.json"
        old = json.loads(path.read_text()) | {"ttt_accept": True, "ttt_loss_type": "consistency"}
        del old["ttt_exit_layer"]
        path.write_text(json.dumps(old))
        model = load(checkpoint_dir)
        assert model.default_options == AdaptationOptions(loss_type="entropy_mcc")
        (transcript,) = Transcriber(model, ttt_options=model.default_options).transcribe_samples([SAMPLES])
        assert transcript.is_adapted


class TestAsAcousticModel:
    def test_a_model_object_with_a_processor(self, wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor) -> None:
        wav2vec2.train()
        before = {name: tensor.clone() for name, tensor in wav2vec2.state_dict().items()}
        model = as_acoustic_model(wav2vec2, processor)
        assert isinstance(model, HuggingFaceAcousticModel)
        assert model.model.lm_head.weight.data_ptr() == wav2vec2.lm_head.weight.data_ptr()
        inputs = model.prepare([SAMPLES])
        (transcript,) = Transcriber(model, ttt_options=model.default_options).transcribe_samples([SAMPLES])
        assert transcript.is_adapted
        adaptation = adapt(model, inputs, AdaptationOptions(loss_type="entropy", parameters="norms"))
        assert adaptation.is_adapted.all()
        assert all(torch.equal(tensor, before[name]) for name, tensor in wav2vec2.state_dict().items())
        assert all(module.training for module in wav2vec2.modules())
        assert all(parameter.requires_grad for parameter in wav2vec2.parameters())
        assert all(parameter.grad is None for parameter in wav2vec2.parameters())
        with torch.no_grad():
            expected = wav2vec2.eval()(**processor(SAMPLES, sampling_rate=16000, return_tensors="pt")).logits
        torch.testing.assert_close(model.recognize(inputs)[0], expected, rtol=0, atol=1e-5)

    def test_one_of_ours(self, tiny_model: HybridASRForCTC, processor: Wav2Vec2Processor) -> None:
        model = as_acoustic_model(tiny_model.train(), processor)
        assert isinstance(model, HybridAcousticModel)
        assert not model.model.training
        assert tiny_model.training
        assert model.model.lm_head.weight.data_ptr() == tiny_model.lm_head.weight.data_ptr()

    def test_the_processor_is_that_of_the_folder_which_the_model_came_from(self, wav2vec2_dir: Path) -> None:
        model = as_acoustic_model(Wav2Vec2ForCTC.from_pretrained(wav2vec2_dir))
        assert model.vocabulary == load(wav2vec2_dir).vocabulary
        assert torch.equal(
            model.recognize(model.prepare([SAMPLES]))[0],
            load(wav2vec2_dir).recognize(model.prepare([SAMPLES]))[0],
        )

    def test_one_of_ours_from_its_folder(self, checkpoint_dir: Path) -> None:
        model = as_acoustic_model(HybridASRForCTC.from_pretrained(checkpoint_dir))
        assert isinstance(model, HybridAcousticModel)
        assert model.vocabulary == load(checkpoint_dir).vocabulary

    def test_an_acoustic_model_is_returned_as_it_is(self, checkpoint_dir: Path) -> None:
        model = load(checkpoint_dir)
        assert as_acoustic_model(model) is model

    def test_a_model_without_processor_is_one_clear_error(
        self, wav2vec2: Wav2Vec2ForCTC, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match="model Wav2Vec2ForCTC: no processor was found for it; give processor="):
            as_acoustic_model(wav2vec2)
        wav2vec2.save_pretrained(tmp_path / "model")
        with pytest.raises(UserError, match="no processor was found for it; give processor="):
            as_acoustic_model(Wav2Vec2ForCTC.from_pretrained(tmp_path / "model"))

    def test_a_model_without_ctc_head_is_one_clear_error(
        self, wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor
    ) -> None:
        encoder = Wav2Vec2Model(wav2vec2.config)
        with pytest.raises(UserError, match="model Wav2Vec2Model: has no head lm_head; load it with AutoModelForCTC"):
            as_acoustic_model(encoder, processor)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("is_ours", [False, True])
    def test_another_precision_is_one_clear_error(
        self,
        wav2vec2: Wav2Vec2ForCTC,
        tiny_model: HybridASRForCTC,
        processor: Wav2Vec2Processor,
        dtype: torch.dtype,
        is_ours: bool,
    ) -> None:
        model = (tiny_model if is_ours else wav2vec2).to(dtype)
        name = str(dtype).removeprefix("torch.")
        with pytest.raises(UserError, match=rf"^model {type(model).__name__}: is {name}; give model.float\(\)$"):
            as_acoustic_model(model, processor)

    def test_half_a_processor_is_one_clear_error(self, wav2vec2: Wav2Vec2ForCTC, processor: Wav2Vec2Processor) -> None:
        with pytest.raises(UserError, match=r"give processor=\.\.\., with a feature extractor and a tokenizer"):
            as_acoustic_model(wav2vec2, processor.tokenizer)
