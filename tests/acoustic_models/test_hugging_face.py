"""Every CTC model of `transformers`: loaded from a folder, recognised, adapted and evaluated."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoFeatureExtractor,
    AutoModelForCTC,
    BertTokenizer,
    ParakeetCTCConfig,
    ParakeetForCTC,
    Wav2Vec2ForCTC,
)

from lact_asr_model.acoustic_models.functional import Layout
from lact_asr_model.acoustic_models.hugging_face import HuggingFaceAcousticModel
from lact_asr_model.acoustic_models.loading import as_acoustic_model, load
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.procedure import adapt
from lact_asr_model.cli import main
from lact_asr_model.decoding.greedy import greedy_decode
from lact_asr_model.errors import UserError
from lact_asr_model.recognition.transcriber import Transcriber

KINDS = (
    *("wav2vec2", "wav2vec2-large", "wav2vec2-adapter", "hubert", "wavlm", "data2vec-audio", "wav2vec2-conformer"),
    *("wav2vec2-bert", "wav2vec2-bert-adapter"),
)
MakeCheckpoint = Callable[..., Path]


def has_conv_encoder(folder: Path) -> bool:
    return not folder.name.startswith("wav2vec2-bert")


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint(request.param)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`lact-asr` with these arguments."""

    def call(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["lact-asr", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert exit_.value.code == 0

    return call


def logits_as_published(folder: Path, samples: np.ndarray) -> torch.Tensor:
    """[frames, vocabulary], as the documentation of `transformers` has it: extractor, model, attention mask."""
    inputs = AutoFeatureExtractor.from_pretrained(folder)(
        samples, sampling_rate=16000, return_tensors="pt", return_attention_mask=True
    )
    model = AutoModelForCTC.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    num_frames = model._get_feature_vector_attention_mask(logits.shape[0], inputs.attention_mask).sum()
    return logits[: int(num_frames)]


def state_of(model: HuggingFaceAcousticModel) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.model.state_dict().items()}


def test_it_is_loaded_with_what_it_says_of_itself(folder: Path) -> None:
    model = load(folder)
    assert isinstance(model, HuggingFaceAcousticModel)
    assert not model.is_batched
    assert not any(module.training for module in model.model.modules())
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    assert {parameter.dtype for parameter in model.model.parameters()} == {torch.float32}
    assert model.blank_id == 8
    assert model.vocabulary[:3] + model.vocabulary[8:10] + model.vocabulary[18:] == [
        *("|", "a", "b", "<pad>", "h"),
        *("<[UNK]>", *"qrstuvwxyz'"),
    ]
    assert model.sampling_rate == 16000
    adapter_stride = {"wav2vec2-adapter": 4, "wav2vec2-bert-adapter": 2}.get(folder.name, 1)
    assert model.frame_seconds == pytest.approx(0.02 * adapter_stride)
    assert model.folder == folder
    of_conv_encoder = {"front_end", "suta"} if has_conv_encoder(folder) else set()
    assert model.weight_groups().keys() == {"attention", "norms", *of_conv_encoder}


@pytest.mark.parametrize("do_normalize", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_recognised_as_published(
    make_checkpoint: MakeCheckpoint, recordings: list[np.ndarray], kind: str, do_normalize: bool
) -> None:
    folder = make_checkpoint(kind, do_normalize=do_normalize)
    model = load(folder)
    vocabulary = {index: symbol for symbol, index in json.loads((folder / "vocab.json").read_text()).items()}
    for samples in recordings:
        if kind == "wav2vec2-bert-adapter" and (len(samples) - 400) // 160 % 2 == 0:
            continue  # of an odd number of filter banks: they are filled up, and this adapter's attention hears it
        loud = 3 * samples + 0.5
        expected = logits_as_published(folder, loud)
        logits, frame_mask = model.recognize(model.prepare([loud]))
        assert frame_mask.shape == (1, len(expected)) and frame_mask.all()
        torch.testing.assert_close(logits[0], expected, rtol=0, atol=1e-4)
        (transcript,) = Transcriber(model).transcribe_samples([loud])
        path = torch.unique_consecutive(expected.argmax(dim=-1)).tolist()
        spelt = "".join(vocabulary[index] for index in path if vocabulary[index] not in ("[PAD]", "[UNK]"))
        assert transcript.text == " ".join(spelt.replace("_", " ").split())
        assert transcript.text
        assert transcript.words[-1].end_seconds <= len(loud) / 16000


@pytest.mark.parametrize("parameters", ["front_end", "norms", "attention", "suta", "norms+attention"])
def test_any_group_adapts_and_the_model_stays_bitwise_as_it_was(
    folder: Path, recordings: list[np.ndarray], parameters: str
) -> None:
    model = load(folder)
    before = state_of(model)
    inputs = model.prepare(recordings[:1])
    options = AdaptationOptions(loss_type="entropy_mcc", steps=2, parameters=parameters, front_end_step=1e-2)
    if not has_conv_encoder(folder) and parameters in ("front_end", "suta"):
        with pytest.raises(UserError, match=f"this model has no {parameters} to move, it has attention, norms$"):
            adapt(model, inputs, options)
        return
    plain, _ = model.recognize(inputs)
    adaptation = adapt(model, inputs, options)
    assert adaptation.is_adapted.all()
    assert adaptation.logits.shape == plain.shape
    assert adaptation.frame_mask.shape == plain.shape[:2]
    assert (adaptation.logits - plain).abs().max() > 1e-2
    assert (adaptation.losses[1] < adaptation.losses[0]).all()
    assert state_of(model) == before
    assert torch.equal(model.recognize(inputs)[0], plain)
    again = adapt(model, inputs, options)
    assert torch.equal(again.logits, adaptation.logits)


@pytest.mark.parametrize("parameters", ["front_end", "norms", "attention"])
def test_the_answer_is_that_of_a_model_with_the_adapted_weights(
    folder: Path, recordings: list[np.ndarray], parameters: str
) -> None:
    if not has_conv_encoder(folder) and parameters == "front_end":
        pytest.skip("it has none")
    model = load(folder)
    inputs = model.prepare(recordings[1:2])
    options = AdaptationOptions(loss_type="entropy", parameters=parameters, max_seconds=0.4, front_end_step=0.05)
    adaptation = adapt(model, inputs, options)
    other = AutoModelForCTC.from_pretrained(folder).eval()
    with torch.no_grad():
        for name, weight in adaptation.weights.items():
            other.get_parameter(name).copy_(weight[0])
        torch.testing.assert_close(adaptation.logits, other(**inputs).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("layers", ["0", "1"])
def test_attention_of_one_block_is_all_its_matrices(folder: Path, recordings: list[np.ndarray], layers: str) -> None:
    model = load(folder)
    options = AdaptationOptions(loss_type="entropy", parameters="attention", layers=layers)
    adaptation = adapt(model, model.prepare(recordings[:1]), options)
    (prefix,) = {name.partition(f".encoder.layers.{layers}.")[0] for name in adaptation.weights}
    assert prefix == model.model.base_model_prefix
    block = model.model.base_model.encoder.layers[int(layers)]
    (attention,) = [module for name, module in block.named_children() if name in ("attention", "self_attn")]
    projections = {
        f".{name}.weight"
        for name, module in attention.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.startswith(("linear_pos", "gru_"))
    }
    assert len(projections) == 4
    assert {f".{name.split('.', 5)[-1]}" for name in adaptation.weights} == projections


def test_blocks_before_the_first_that_moves_run_once_and_change_nothing(
    folder: Path, recordings: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def adapt_last_block() -> tuple[dict[str, int], torch.Tensor]:
        """How often the modules ran, and the answer."""
        model = load(folder)
        calls: Counter[str] = Counter()
        for name, module in model.model.named_modules():
            if name.endswith(("encoder.layers.0", "encoder.layers.1", "pos_conv_embed", "conv_layers.0")):
                module.register_forward_hook(lambda *_, name=name: calls.update([name.split(".", 1)[1]]))
        options = AdaptationOptions(loss_type="entropy", parameters="attention", layers="1", steps=2)
        return calls, adapt(model, model.prepare(recordings[:1]), options).logits

    calls, logits = adapt_last_block()
    assert calls.pop("encoder.layers.1") == 3
    assert set(calls.values()) == {1}
    monkeypatch.setattr(HuggingFaceAcousticModel, "_layout", lambda _: Layout())
    all_calls, expected = adapt_last_block()
    assert set(all_calls.values()) == {3} and all_calls.keys() == calls.keys() | {"encoder.layers.1"}
    assert torch.equal(logits, expected)


def test_the_steps_can_listen_to_the_beginning(folder: Path, recordings: list[np.ndarray]) -> None:
    model = load(folder)
    inputs = model.prepare(recordings[2:3])
    ((name, values),) = inputs.items()
    limit = 6400 if name == "input_values" else 20  # pairs of banks every 10 ms
    options = AdaptationOptions(loss_type="entropy", parameters="norms", front_end_step=0.05, max_seconds=0.4)
    adaptation = adapt(model, inputs, options)
    beginning = adapt(model, {name: values[:, :limit]}, replace(options, max_seconds=0.0))
    assert torch.equal(adaptation.losses, beginning.losses)
    for weight_name, weight in beginning.weights.items():
        assert torch.equal(adaptation.weights[weight_name], weight)
    assert adaptation.logits.shape[1] > beginning.logits.shape[1]


def test_frames_are_counted_as_the_model_counts_them(folder: Path) -> None:
    """Every length around the shortest that has a frame, and some longer ones."""
    model = load(folder)
    options = AdaptationOptions(loss_type="entropy", parameters="norms", steps=1)
    for num_samples in (*range(model.shortest_samples, model.shortest_samples + 700, 87), 16000):
        samples = np.random.default_rng(0).standard_normal(num_samples, dtype=np.float32)
        inputs = model.prepare([samples])
        logits, frame_mask = model.recognize(inputs)
        assert logits.shape[1] >= 1
        speech = model.listen(inputs, ["no weight of this name"], AdaptationOptions())
        assert speech.frame_mask.shape == logits.shape[:2] == frame_mask.shape
        assert adapt(model, inputs, options).logits.isfinite().all()


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.01, 0.02, 0.03])
def test_scraps_of_sound_are_survived(folder: Path, seconds: float) -> None:
    model = load(folder)
    samples = np.random.default_rng(0).standard_normal(round(16000 * seconds), dtype=np.float32)
    (transcript,) = Transcriber(model, ttt_options=model.default_options).transcribe_samples([samples])
    assert transcript.duration_seconds == seconds


def test_its_own_options_adapt_it(folder: Path, recordings: list[np.ndarray]) -> None:
    model = load(folder)
    (transcript,) = Transcriber(model, ttt_options=model.default_options).transcribe_samples(recordings[:1])
    assert transcript.is_adapted
    assert len(transcript.ttt_losses) == model.default_options.steps


def test_it_is_evaluated_from_the_command_line(
    run: Callable[..., None], folder: Path, librispeech_dir: Path, tmp_path: Path, capsys
) -> None:
    methods = ["none", "tent:1", "ttt_norms:1", "continual_attention:1"]
    methods += [] if not has_conv_encoder(folder) else ["suta:1", "ttt_front_end:2", "ttt"]
    arguments = ["--checkpoint", str(folder), "--data_dir", str(librispeech_dir), "--subset", "test-tiny"]
    run("evaluate", *arguments, "--methods", ",".join(methods), "--output_dir", str(tmp_path / "run"))
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 2 + len(methods)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [row["method"] for row in results["results"]] == methods
    assert {row["words"]["reference_length"] for row in results["results"]} == {4}
    records = [json.loads(line) for line in (tmp_path / "run" / "utterances.jsonl").read_text().splitlines()]
    assert [record["adapted"] for record in records] == [record["method"] != "none" for record in records]
    assert "Loading weights" not in output.err


class TestVocabulary:
    def test_blank_word_separator_and_silent_symbols_are_named_as_elsewhere(
        self, make_checkpoint: MakeCheckpoint
    ) -> None:
        model = load(make_checkpoint("wav2vec2"))
        path = [1, 1, 8, 1, 18, 0, 2, 8]  # a a blank a unknown space b blank
        log_probs = torch.nn.functional.one_hot(torch.tensor(path), len(model.vocabulary)).float().log_softmax(dim=-1)
        assert greedy_decode(log_probs, model.vocabulary).text == "aa b"

    def test_a_tokenizer_like_that_of_wav2vec2_base(self, wav2vec2_dir: Path, wav2vec2: Wav2Vec2ForCTC) -> None:
        model = load(wav2vec2_dir)
        assert torch.equal(model.model.lm_head.weight, wav2vec2.lm_head.weight)
        assert model.vocabulary[:5] == ["<pad>", "<unk>", "|", "'", "A"]

    @pytest.mark.parametrize("num_outputs", [28, 32])
    def test_it_is_as_long_as_the_output_layer(
        self, make_checkpoint: MakeCheckpoint, recordings: list[np.ndarray], num_outputs: int
    ) -> None:
        """Some checkpoints have unused outputs, and some a tokenizer with symbols that no output says."""
        model = load(make_checkpoint("wav2vec2", vocab_size=num_outputs))
        assert len(model.vocabulary) == num_outputs == model.recognize(model.prepare(recordings[:1]))[0].shape[-1]
        with torch.no_grad():
            model.model.lm_head.bias[num_outputs - 1] = 1e3
        (transcript,) = Transcriber(model).transcribe_samples(recordings[:1])
        assert transcript.text == ("y" if num_outputs == 28 else "")


class TestLanguages:
    @pytest.mark.parametrize("language", ["eng", "deu"])
    def test_a_language_has_its_own_adapters_head_and_symbols(
        self, multilingual: tuple[Path, dict[str, Wav2Vec2ForCTC]], recordings: list[np.ndarray], language: str
    ) -> None:
        folder, models = multilingual
        model = load(folder, language=language)
        assert model.vocabulary[5:] == list({"eng": "abcdefghij", "deu": "klmnoäöüß"}[language])
        inputs = model.prepare(recordings[:1])
        with torch.no_grad():
            expected = models[language](**inputs).logits
        torch.testing.assert_close(model.recognize(inputs)[0], expected, rtol=0, atol=1e-5)
        (transcript,) = Transcriber(model, ttt_options=model.default_options).transcribe_samples(recordings[:1])
        assert transcript.is_adapted
        assert set(transcript.text) <= {*model.vocabulary[5:], " "}

    def test_without_a_choice_it_is_the_checkpoints_own(
        self, multilingual: tuple[Path, dict[str, Wav2Vec2ForCTC]], recordings: list[np.ndarray]
    ) -> None:
        folder, _ = multilingual
        own, english, german = load(folder), load(folder, language="eng"), load(folder, language="deu")
        logits = [model.recognize(model.prepare(recordings[:1]))[0] for model in (own, english, german)]
        assert torch.equal(logits[0], logits[1])
        assert logits[2].shape[-1] != logits[0].shape[-1]

    def test_the_command_line_chooses(
        self, run: Callable[..., None], multilingual: tuple[Path, Any], librispeech_dir: Path, capsys
    ) -> None:
        folder, _ = multilingual
        audio = next(librispeech_dir.rglob("3-10-0000.*"))
        for language in ("eng", "deu"):
            run("transcribe", "--checkpoint", str(folder), "--language", language, str(audio))
            text = capsys.readouterr().out.strip()
            assert text
            assert set(text) <= {*{"eng": "abcdefghij", "deu": "klmnoäöüß"}[language], " "}

    @pytest.mark.parametrize("language", ["fra", ""])
    def test_an_unknown_language_is_one_clear_error(
        self, multilingual: tuple[Path, dict[str, Wav2Vec2ForCTC]], language: str
    ) -> None:
        folder, _ = multilingual
        with pytest.raises(UserError, match=f"checkpoint .*mms: has no language {language} ") as caught:
            load(folder, language=language)
        assert "\n" not in str(caught.value)

    def test_an_adapter_that_is_missing_is_one_clear_error(
        self, multilingual: tuple[Path, dict[str, Wav2Vec2ForCTC]]
    ) -> None:
        folder, _ = multilingual
        (folder / "adapter.deu.safetensors").unlink()
        with pytest.raises(UserError, match=r"has no language deu \(.*"):
            load(folder, language="deu")

    def test_a_model_without_adapters_has_no_languages(self, make_checkpoint: MakeCheckpoint) -> None:
        folder = make_checkpoint("wav2vec2")
        with pytest.raises(UserError, match="has no language deu "):
            load(folder, language="deu")


class TestBadFolders:
    @pytest.mark.parametrize("missing", ["vocab.json", "model.safetensors", "preprocessor_config.json"])
    def test_an_incomplete_folder_is_one_clear_error(self, make_checkpoint: MakeCheckpoint, missing: str) -> None:
        folder = make_checkpoint("wav2vec2")
        (folder / missing).unlink()
        with pytest.raises(UserError, match="cannot be loaded as a CTC model") as caught:
            load(folder)
        assert "\n" not in str(caught.value)

    def test_damaged_weights_are_one_clear_error(self, make_checkpoint: MakeCheckpoint) -> None:
        folder = make_checkpoint("wav2vec2")
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(UserError, match="cannot be loaded as a CTC model"):
            load(folder)

    def test_weights_of_other_sizes_are_one_clear_error(self, make_checkpoint: MakeCheckpoint) -> None:
        folder = make_checkpoint("wav2vec2")
        weights = load_file(folder / "model.safetensors")
        weights["lm_head.weight"] = weights["lm_head.weight"][:-1].contiguous()
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UserError, match="cannot be loaded as a CTC model"):
            load(folder)

    @pytest.mark.parametrize("missing", ["lm_head.weight", "wav2vec2.encoder.layers.1.feed_forward.output_dense.bias"])
    def test_a_weight_that_was_never_saved_is_one_clear_error(
        self, make_checkpoint: MakeCheckpoint, missing: str
    ) -> None:
        folder = make_checkpoint("wav2vec2")
        leave_out(folder / "model.safetensors", missing)
        with pytest.raises(UserError) as caught:
            load(folder)
        assert str(caught.value) == (
            f"checkpoint {folder}: has no trained {missing}; give one that is fine-tuned for CTC and saved whole"
        )

    def test_what_recognition_does_not_need_may_be_missing(
        self, make_checkpoint: MakeCheckpoint, multilingual: tuple[Path, dict[str, Wav2Vec2ForCTC]]
    ) -> None:
        leave_out(make_checkpoint("wav2vec2") / "model.safetensors", "wav2vec2.masked_spec_embed")
        load(make_checkpoint("wav2vec2"))
        folder, models = multilingual
        adapters = models["eng"]._get_adapters()
        leave_out(folder / "model.safetensors", *adapters)
        for language, model in models.items():
            assert torch.equal(load(folder, language=language).model.lm_head.weight, model.lm_head.weight)
        with pytest.raises(UserError, match="has no trained lm_head"):
            load(folder)

    def test_a_model_without_ctc_head_is_one_clear_error(self, make_checkpoint: MakeCheckpoint) -> None:
        folder = make_checkpoint("wav2vec2")
        change_json(folder / "config.json", model_type="bert")
        with pytest.raises(UserError, match="cannot be loaded as a CTC model"):
            load(folder)

    def test_another_sampling_rate_is_refused(self, make_checkpoint: MakeCheckpoint) -> None:
        folder = make_checkpoint("wav2vec2")
        change_json(folder / "preprocessor_config.json", sampling_rate=8000)
        with pytest.raises(UserError, match="takes audio at 8000 Hz; give a model for 16000 Hz"):
            load(folder)

    def test_a_model_without_a_blank_is_refused(self, make_checkpoint: MakeCheckpoint) -> None:
        folder = make_checkpoint("wav2vec2")
        change_json(folder / "config.json", pad_token_id=None)
        with pytest.raises(UserError, match="names no pad_token_id, which is the blank"):
            load(folder)


class TestKinds:
    def test_a_kind_with_another_head_is_refused(self, make_checkpoint: MakeCheckpoint) -> None:
        processor = SimpleNamespace(
            feature_extractor=load(make_checkpoint("wav2vec2")).feature_extractor, tokenizer=None
        )
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        other = ParakeetForCTC(ParakeetCTCConfig(vocab_size=8, encoder_config=sizes))
        with pytest.raises(UserError, match="ParakeetForCTC: has no head lm_head; .* than parakeet_ctc"):
            as_acoustic_model(other, processor)

    @pytest.mark.parametrize(("kind", "other"), [("wav2vec2", "wav2vec2-bert"), ("wav2vec2-bert", "wav2vec2")])
    def test_a_feature_extractor_of_another_kind_is_refused(
        self, make_checkpoint: MakeCheckpoint, kind: str, other: str
    ) -> None:
        folder = make_checkpoint(kind)
        shutil.copy(make_checkpoint(other) / "preprocessor_config.json", folder)
        with pytest.raises(UserError, match=f"its .*FeatureExtractor is not one for {kind}; give another"):
            load(folder)

    def test_a_tokenizer_that_is_not_for_ctc_is_refused(self, make_checkpoint: MakeCheckpoint) -> None:
        model = load(make_checkpoint("wav2vec2"))
        tokenizer = BertTokenizer({"[UNK]": 0, "a": 1})
        with pytest.raises(UserError, match="tokenizer BertTokenizer: has no word_delimiter_token; give one for CTC"):
            HuggingFaceAcousticModel(model.model, model.feature_extractor, tokenizer)

    @pytest.mark.parametrize("kind", ["sew", "sew-d"])
    def test_sew_needs_as_many_frames_as_it_squeezes_into_one(self, make_checkpoint: MakeCheckpoint, kind: str) -> None:
        model = load(make_checkpoint(kind))
        transcriber = Transcriber(model, ttt_options=model.default_options)
        for num_samples in (400, 719, 720, 1100, 16000):
            samples = np.random.default_rng(0).standard_normal(num_samples, dtype=np.float32)
            (transcript,) = transcriber.transcribe_samples([samples])
            assert transcript.is_adapted == (num_samples >= model.shortest_samples == 720)


def leave_out(path: Path, *names: str) -> None:
    weights = load_file(path)
    for name in names:
        del weights[name]
    save_file(weights, path, metadata={"format": "pt"})


def change_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
