"""The whole model: padding, losses, weights that are given to it, saving, and `transformers` around it.

Invariances are proved twice: as initialised in float32 (tolerance 1e-5), and in float64 with every parameter random
and large (tolerance 1e-9), where nothing can hide in small numbers.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCTC, pipeline

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.hybrid_network import HybridASROutput, count_parameters, last_state
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.text import build_vocabulary, make_processor

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"
LENGTHS = (9000, 4000, 16000, 6543)
STEP_SCALES = ("fast_weight_log_step_scales", "front_end_log_step_scales")
NO_RANDOMNESS = {
    "hidden_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0, "layerdrop": 0.0, "mask_prob": 0.0
}  # fmt: skip


def enliven(model: HybridASRForCTC) -> HybridASRForCTC:
    """The model in float64 and eval mode, with every parameter random and so large that outputs have size 1."""
    generator = torch.Generator().manual_seed(4)
    for parameter in model.double().parameters():
        fan_in = parameter[0].numel() if parameter.ndim == 3 and parameter.shape[0] == 16 else parameter.shape[-1]
        spread = (2 / fan_in) ** 0.5 if parameter.ndim > 1 else 0.5
        parameter.data = spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model.eval()


@pytest.fixture
def lively_model(tiny_config: HybridASRConfig) -> HybridASRForCTC:
    return enliven(HybridASRForCTC(tiny_config))


def model_with(tiny_config: HybridASRConfig, **fields: Any) -> HybridASRForCTC:
    """A tiny model with some fields changed, with the same initial weights every time."""
    torch.manual_seed(0)
    return HybridASRForCTC(HybridASRConfig(**{**tiny_config.to_dict(), **fields})).eval()


def utterance(num_samples: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """[samples]"""
    return torch.randn(num_samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def padded_batch(lengths: Sequence[int], dtype: torch.dtype, garbage: float = 0.0) -> tuple[Tensor, Tensor]:
    """input_values and attention_mask [batch, samples]; utterance i is seeded by its length, padding by its row."""
    longest = max(lengths)
    rows = range(len(lengths))
    input_values = garbage * torch.stack([utterance(longest, seed=1000 + row, dtype=dtype) for row in rows])
    attention_mask = torch.zeros(len(lengths), longest, dtype=torch.long)
    for row, length in enumerate(lengths):
        input_values[row, :length] = utterance(length, seed=length, dtype=dtype)
        attention_mask[row, :length] = 1
    return input_values, attention_mask


def logits_alone(model: HybridASRForCTC, length: int, dtype: torch.dtype) -> Tensor:
    return model(utterance(length, seed=length, dtype=dtype)[None]).logits[0]


class TestPadding:
    @pytest.mark.parametrize("garbage", [0.0, 1.0, 1000.0])
    @torch.no_grad()
    def test_padding_does_not_change_logits(
        self, tiny_model: HybridASRForCTC, lively_model: HybridASRForCTC, garbage: float
    ) -> None:
        for model, dtype, tolerance in ((tiny_model, torch.float32, 1e-5), (lively_model, torch.float64, 1e-9)):
            logits = model(*padded_batch(LENGTHS, dtype, garbage)).logits
            for row, length in enumerate(LENGTHS):
                alone = logits_alone(model, length, dtype)
                assert alone.shape[0] == model.config.num_frames(length)
                assert alone.std() > (0.05 if model is tiny_model else 0.5)
                assert (logits[row, : len(alone)] - alone).abs().max() < tolerance

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("encoder_target_ds_factor", 5),
            ("use_wav2vec2_encoder", False),
            ("feat_extract_norm", "layer"),
            ("fast_weight_muon", False),
            ("newton_schulz_schedule", "polar_express"),
            ("num_lact_heads", 1),
            ("lact_chunk_size", 5),
            ("window_size", 4),
        ],
    )
    @torch.no_grad()
    def test_padding_does_not_change_logits_of_variants(
        self, tiny_config: HybridASRConfig, field: str, value: object
    ) -> None:
        model = enliven(model_with(tiny_config, **{field: value}))
        tolerance = 1e-5 if field == "use_wav2vec2_encoder" else 1e-9  # the log-mel front end runs in float32
        logits = model(*padded_batch(LENGTHS[:2], torch.float64, garbage=10.0)).logits
        alone = logits_alone(model, LENGTHS[1], torch.float64)
        assert (logits[1, : len(alone)] - alone).abs().max() < tolerance

    @torch.no_grad()
    def test_neighbours_do_not_change_logits(self, lively_model: HybridASRForCTC) -> None:
        logits = lively_model(*padded_batch((5000, 7000), torch.float64)).logits[0]
        others = lively_model(*padded_batch((5000, 16000, 450, 3000), torch.float64)).logits[0]
        num_frames = lively_model.config.num_frames(5000)
        assert (logits[:num_frames] - others[:num_frames]).abs().max() < 1e-9

    @torch.no_grad()
    def test_order_in_the_batch_does_not_matter(self, lively_model: HybridASRForCTC) -> None:
        input_values, attention_mask = padded_batch(LENGTHS, torch.float64)
        logits = lively_model(input_values, attention_mask).logits
        reversed_logits = lively_model(input_values.flip(0), attention_mask.flip(0)).logits.flip(0)
        assert (logits - reversed_logits).abs().max() < 1e-9

    @torch.no_grad()
    def test_padded_frames_say_blank(self, lively_model: HybridASRForCTC) -> None:
        input_values, attention_mask = padded_batch(LENGTHS, torch.float64, garbage=5.0)
        logits = lively_model(input_values, attention_mask).logits
        lengths = lively_model.frame_lengths(attention_mask)
        assert lengths.tolist() == [lively_model.config.num_frames(length) for length in LENGTHS]
        for row, length in enumerate(lengths.tolist()):
            assert (logits[row, length:].argmax(-1) == lively_model.config.pad_token_id).all()
            assert (logits[row, length:].log_softmax(-1)[:, lively_model.config.pad_token_id] > -1e-6).all()

    @torch.no_grad()
    def test_encode_masks_padding(self, tiny_model: HybridASRForCTC) -> None:
        features, frame_mask = tiny_model.encode(*padded_batch(LENGTHS, torch.float32, garbage=5.0))
        assert frame_mask.dtype == torch.bool
        assert frame_mask.sum(-1).tolist() == [tiny_model.config.num_frames(length) for length in LENGTHS]
        assert features.shape == (4, tiny_model.config.num_frames(16000), tiny_model.config.hidden_size)
        assert (features[~frame_mask] == 0).all()

    @torch.no_grad()
    def test_a_mask_of_ones_is_no_mask(self, lively_model: HybridASRForCTC) -> None:
        input_values = utterance(8000, dtype=torch.float64)[None]
        with_mask = lively_model(input_values, torch.ones(1, 8000, dtype=torch.long)).logits
        assert (with_mask - lively_model(input_values).logits).abs().max() < 1e-9

    def test_training_gradients_of_a_padded_batch_are_the_mean_of_the_utterances(
        self, tiny_config: HybridASRConfig
    ) -> None:
        model = enliven(model_with(tiny_config, **NO_RANDOMNESS)).train()
        input_values, attention_mask = padded_batch((4000, 9000), torch.float64, garbage=3.0)
        labels = torch.tensor([[5, 6, -100, -100], [7, 8, 9, 10]])
        model(input_values, attention_mask, labels).loss.backward()
        together = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        for row, length in enumerate((4000, 9000)):
            (model(input_values[row : row + 1, :length], labels=labels[row : row + 1]).loss / 2).backward()
        learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert set(together) >= {name for name in learned if "mask" not in name}
        for name, gradient in together.items():  # the CTC loss is computed in float32, which bounds the agreement
            expected = model.get_parameter(name).grad
            assert (gradient - expected).abs().max() < 1e-4 * expected.abs().max() + 1e-7, name


class TestTinyInputs:
    @pytest.mark.parametrize("num_samples", [0, 1, 100, 399])
    @pytest.mark.parametrize("use_wav2vec2_encoder", [True, False])
    def test_less_than_a_frame_gives_no_frames(
        self, tiny_config: HybridASRConfig, num_samples: int, use_wav2vec2_encoder: bool
    ) -> None:
        model = model_with(tiny_config, use_wav2vec2_encoder=use_wav2vec2_encoder)
        attention_mask = torch.ones(2, num_samples, dtype=torch.long)
        for mask in (None, attention_mask):
            assert model(torch.zeros(2, num_samples), mask).logits.shape == (2, 0, model.config.vocab_size)

    @pytest.mark.parametrize("training", [True, False])
    def test_loss_without_frames_is_finite(self, tiny_model: HybridASRForCTC, training: bool) -> None:
        output = tiny_model.train(training)(torch.zeros(2, 100), labels=torch.tensor([[3, 4], [5, -100]]))
        assert output.loss.isfinite()

    @pytest.mark.parametrize("num_frames", [1, 2, 3])
    def test_a_few_frames(self, tiny_model: HybridASRForCTC, num_frames: int) -> None:
        num_samples = tiny_model.config.num_samples(num_frames)
        for training in (False, True):
            output = tiny_model.train(training)(utterance(num_samples)[None], labels=torch.tensor([[3]]))
            assert output.logits.shape[1] == num_frames
            assert output.loss.isfinite()
            output.loss.backward()
            assert all(p.grad.isfinite().all() for p in tiny_model.parameters() if p.grad is not None)

    def test_an_utterance_without_frames_among_others(self, tiny_model: HybridASRForCTC) -> None:
        input_values, attention_mask = padded_batch((8000, 100), torch.float32)
        labels = torch.tensor([[3, 4], [5, 6]])
        for training in (False, True):
            output = tiny_model.train(training)(input_values, attention_mask, labels)
            output.loss.backward()
            assert output.loss.isfinite()
            assert all(p.grad.isfinite().all() for p in tiny_model.parameters() if p.grad is not None)
        logits = tiny_model.eval()(input_values, attention_mask).logits
        assert (logits[1].argmax(-1) == tiny_model.config.pad_token_id).all()

    def test_silence_is_finite(self, tiny_model: HybridASRForCTC) -> None:
        output = tiny_model.train()(torch.zeros(1, 8000), labels=torch.tensor([[3, 4]]))
        output.loss.backward()
        assert output.logits.isfinite().all()
        assert all(p.grad.isfinite().all() for p in tiny_model.parameters() if p.grad is not None)


class TestLosses:
    LABELS = torch.tensor([[5, 6, 6, 7], [8, -100, -100, -100], [9, 10, 11, -100], [4, 4, -100, -100]])

    def test_ctc_loss_is_that_of_the_logits(self, tiny_model: HybridASRForCTC) -> None:
        """Each utterance's negative log-likelihood per character, averaged; labels of -100 are padding."""
        input_values, attention_mask = padded_batch(LENGTHS, torch.float32)
        output = tiny_model(input_values, attention_mask, self.LABELS)
        expected = []
        for row, length in enumerate(LENGTHS):
            target = self.LABELS[row][self.LABELS[row] >= 0]
            log_probs = logits_alone(tiny_model, length, torch.float32).log_softmax(-1)[:, None]
            loss = F.ctc_loss(log_probs, target[None], [len(log_probs)], [len(target)], reduction="sum")
            expected.append(loss / len(target))
        assert output.ctc_loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
        assert output.loss is output.ctc_loss
        assert output.masked_prediction_loss is None

    def test_loss_of_one_frame_is_the_probability_of_its_character(self, tiny_model: HybridASRForCTC) -> None:
        output = tiny_model(utterance(400)[None], labels=torch.tensor([[5]]))
        assert output.loss.item() == pytest.approx(-output.logits[0, 0].log_softmax(-1)[5].item(), rel=1e-6)

    def test_width_of_label_padding_does_not_matter(self, tiny_model: HybridASRForCTC) -> None:
        batch = padded_batch(LENGTHS, torch.float32)
        wider = F.pad(self.LABELS, (0, 5), value=-100)
        assert torch.equal(tiny_model(*batch, wider).loss, tiny_model(*batch, self.LABELS).loss)

    def test_more_characters_than_frames_does_not_poison_the_batch(self, tiny_model: HybridASRForCTC) -> None:
        input_values, attention_mask = padded_batch((8000, 800), torch.float32)
        loss = tiny_model(input_values, attention_mask, torch.tensor([[3, 4, 5, 6, 7], [3, 4, 5, 6, 7]])).loss
        alone = tiny_model(input_values[:1], attention_mask[:1], torch.tensor([[3, 4, 5, 6, 7]])).loss
        assert loss.item() == pytest.approx(alone.item() / 2, rel=1e-5)

    def test_empty_transcript(self, tiny_model: HybridASRForCTC) -> None:
        output = tiny_model(utterance(4000)[None], labels=torch.full((1, 3), -100))
        blank = output.logits[0].log_softmax(-1)[:, tiny_model.config.pad_token_id]
        assert output.loss.item() == pytest.approx(-blank.sum().item(), rel=1e-5)

    def test_training_loss_adds_masked_prediction_on_the_masked_frames(
        self, tiny_config: HybridASRConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fields = {**NO_RANDOMNESS, "mask_prob": 0.3, "mask_span_frames": 3, "masked_prediction_weight": 0.7}
        model = model_with(tiny_config, **fields).train()
        seen: dict[str, Tensor] = {}
        classify, masked_prediction_loss = model.classify, model.masked_prediction_loss

        def recording_classify(hidden: Tensor, frame_mask: Tensor) -> Tensor:
            seen.update(classified=hidden, frame_mask=frame_mask)
            return classify(hidden, frame_mask)

        def recording_loss(hidden: Tensor, features: Tensor, span_mask: Tensor) -> Tensor:
            seen.update(hidden=hidden, features=features, span_mask=span_mask)
            return masked_prediction_loss(hidden, features, span_mask)

        monkeypatch.setattr(model, "classify", recording_classify)
        monkeypatch.setattr(model, "masked_prediction_loss", recording_loss)
        batch = padded_batch(LENGTHS, torch.float32)
        output = model(*batch, self.LABELS)
        span_mask, per_utterance = seen["span_mask"], []
        assert span_mask.any(-1).all()
        assert not (span_mask & ~model.encode(*batch)[1]).any()
        for row in range(4):
            features = seen["features"][row][span_mask[row]]
            target = (features - features.mean(-1, keepdim=True)) / (
                features.var(-1, keepdim=True, unbiased=False) + 1e-5
            ).sqrt()
            prediction = model.masked_prediction_head(seen["hidden"][row][span_mask[row]])
            per_utterance.append((prediction - target).square().mean())
        expected = torch.stack(per_utterance)
        assert seen["hidden"] is seen["classified"]  # both losses come from one pass
        assert torch.equal(
            seen["hidden"], model.run_stack(seen["features"], seen["frame_mask"], span_mask)
        )  # which saw no masked frame
        measured = masked_prediction_loss(seen["hidden"], seen["features"], span_mask)
        assert (measured - expected).abs().max() < 1e-5
        assert output.masked_prediction_loss.item() == pytest.approx(expected.mean().item(), rel=1e-5)
        assert output.loss.item() == pytest.approx(
            output.ctc_loss.item() + 0.7 * output.masked_prediction_loss.item(), rel=1e-6
        )

    def test_intermediate_heads_have_their_share_of_the_ctc_loss(self, tiny_config: HybridASRConfig) -> None:
        fields = {"num_hidden_layers": 4, "intermediate_ctc_layers": [1, 3], "intermediate_ctc_weight": 0.25}
        model = model_with(tiny_config, **fields).eval()
        batch = padded_batch(LENGTHS, torch.float32)
        output = model(*batch, self.LABELS)
        features, frame_mask = model.encode(*batch)
        losses = [
            model.ctc_loss(
                model.classify_at(model.run_stack(features, frame_mask, num_blocks=block), frame_mask, block),
                frame_mask,
                self.LABELS,
            ).item()
            for block in (1, 3)
        ]
        assert abs(losses[0] - losses[1]) > 1e-3
        assert output.intermediate_ctc_loss.item() == pytest.approx(sum(losses) / 2)
        assert output.ctc_loss.item() == pytest.approx(model.ctc_loss(output.logits, frame_mask, self.LABELS).item())
        expected = 0.75 * output.ctc_loss + 0.25 * output.intermediate_ctc_loss
        assert output.loss.item() == pytest.approx(expected.item())
        with pytest.raises(KeyError):
            model.classify_at(features, frame_mask, 2)

    def test_masked_prediction_target_has_no_gradient(self, tiny_model: HybridASRForCTC) -> None:
        features = torch.randn(2, 10, tiny_model.config.hidden_size, requires_grad=True)
        hidden = torch.randn(2, 10, tiny_model.config.hidden_size, requires_grad=True)
        span_mask = torch.zeros(2, 10, dtype=torch.bool)
        span_mask[0, 3:6] = True
        loss = tiny_model.masked_prediction_loss(hidden, features, span_mask)
        assert loss[0] > 0
        assert loss[1] == 0
        gradient_to_features, gradient_to_hidden = torch.autograd.grad(
            loss.sum(), [features, hidden], allow_unused=True
        )
        assert gradient_to_features is None
        assert torch.equal(gradient_to_hidden.abs().amax(-1) > 0, span_mask)

    @torch.no_grad()
    def test_masked_frames_are_not_seen(self, lively_model: HybridASRForCTC) -> None:
        """What stood at masked frames must not reach the stack, or predicting it would be copying."""
        features, frame_mask = lively_model.encode(utterance(8000, dtype=torch.float64)[None])
        span_mask = torch.zeros_like(frame_mask)
        span_mask[:, 5:9] = True
        changed = features.clone()
        changed[:, 5:9] = 100.0
        hidden = lively_model.run_stack(features, frame_mask, span_mask)
        assert torch.equal(hidden, lively_model.run_stack(changed, frame_mask, span_mask))
        assert not torch.equal(hidden, lively_model.run_stack(features, frame_mask))


class TestIntermediateCTC:
    """CTC heads after blocks 1 and 3 of 4."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "num_hidden_layers": 4, "intermediate_ctc_layers": [1, 3], "intermediate_ctc_weight": 0.2
    }  # fmt: skip

    @pytest.fixture
    def model(self, tiny_config: HybridASRConfig) -> HybridASRForCTC:
        return model_with(tiny_config, **self.FIELDS)

    def test_without_such_layers_the_model_is_the_one_of_before(self, tiny_model: HybridASRForCTC) -> None:
        assert not [name for name in tiny_model.state_dict() if "intermediate" in name]
        output = tiny_model(*padded_batch(LENGTHS, torch.float32), TestLosses.LABELS)
        assert output.intermediate_ctc_loss is None
        assert output.loss is output.ctc_loss

    @torch.no_grad()
    def test_the_heads_leave_the_logits_alone(self, model: HybridASRForCTC, tiny_config: HybridASRConfig) -> None:
        plain = model_with(tiny_config, num_hidden_layers=4)
        weights = {name: tensor for name, tensor in model.state_dict().items() if "intermediate" not in name}
        plain.load_state_dict(weights)
        batch = padded_batch(LENGTHS, torch.float32)
        assert torch.equal(model(*batch).logits, plain(*batch).logits)

    def test_the_loss_lies_between_the_last_heads_and_the_mean_of_the_others(self, model: HybridASRForCTC) -> None:
        batch = padded_batch(LENGTHS, torch.float32)
        output = model(*batch, TestLosses.LABELS)
        features, frame_mask = model.encode(*batch)
        losses = []
        for block in (1, 3):
            hidden = model.run_stack(features, frame_mask, num_blocks=block)
            logits = model.classify_at(hidden, frame_mask, block)
            losses.append(model.ctc_loss(logits, frame_mask, TestLosses.LABELS).item())
        assert abs(losses[0] - losses[1]) > 1e-3
        assert output.intermediate_ctc_loss.item() == pytest.approx(sum(losses) / 2, rel=1e-6)
        expected = 0.8 * output.ctc_loss.item() + 0.2 * sum(losses) / 2
        assert abs(expected - output.ctc_loss.item()) > 1e-3
        assert output.loss.item() == pytest.approx(expected, rel=1e-6)

    def test_training_adds_masked_prediction_to_that(self, model: HybridASRForCTC) -> None:
        output = model.train()(*padded_batch(LENGTHS, torch.float32), TestLosses.LABELS)
        ctc = 0.8 * output.ctc_loss.item() + 0.2 * output.intermediate_ctc_loss.item()
        weighted = model.config.masked_prediction_weight * output.masked_prediction_loss.item()
        assert output.loss.item() == pytest.approx(ctc + weighted, rel=1e-6)

    @torch.no_grad()
    def test_so_many_blocks_are_the_first_ones_run_by_hand(self, tiny_config: HybridASRConfig) -> None:
        model = enliven(model_with(tiny_config, **self.FIELDS))
        features, frame_mask = model.encode(*padded_batch(LENGTHS, torch.float64))
        expected = features
        for num_blocks in range(4):
            assert torch.equal(model.run_stack(features, frame_mask, num_blocks=num_blocks), expected)
            if num_blocks in (1, 3):
                head = model.intermediate_heads[str(num_blocks)]
                by_hand = F.linear(
                    F.layer_norm(expected, (32,), head.norm.weight, head.norm.bias, model.config.layer_norm_eps),
                    head.output.weight,
                    head.output.bias,
                )
                logits = model.classify_at(expected, frame_mask, num_blocks)
                assert (logits - by_hand)[frame_mask].abs().max() < 1e-12
                assert (logits[~frame_mask].argmax(-1) == model.config.pad_token_id).all()
            expected = model.layers[num_blocks](expected, frame_mask)
        assert torch.equal(model.run_stack(features, frame_mask), model.final_norm(expected))
        assert torch.equal(model.run_stack(features, frame_mask, num_blocks=4), expected)

    @torch.no_grad()
    def test_later_blocks_are_not_run(self, model: HybridASRForCTC) -> None:
        ran = []
        for number, layer in enumerate(model.layers, start=1):
            layer.register_forward_hook(lambda *_, number=number: ran.append(number))
        features, frame_mask = model.encode(utterance(4000)[None])
        model.run_stack(features, frame_mask, num_blocks=1)
        assert ran == [1]

    def test_a_block_without_a_head_is_an_error(self, model: HybridASRForCTC) -> None:
        with pytest.raises(KeyError, match="2"):
            model.classify_at(torch.zeros(1, 3, 32), None, 2)

    @torch.no_grad()
    def test_padding_and_neighbours_do_not_change_a_heads_logits(self, tiny_config: HybridASRConfig) -> None:
        model = enliven(model_with(tiny_config, **self.FIELDS))

        def logits_at(block: int, *batch: Tensor) -> Tensor:
            features, frame_mask = model.encode(*batch)
            return model.classify_at(model.run_stack(features, frame_mask, num_blocks=block), frame_mask, block)

        for block in (1, 3):
            together = logits_at(block, *padded_batch(LENGTHS, torch.float64, garbage=10.0))
            for row, length in enumerate(LENGTHS):
                (alone,) = logits_at(block, utterance(length, seed=length, dtype=torch.float64)[None])
                assert alone.std() > 0.5
                assert (together[row, : len(alone)] - alone).abs().max() < 1e-9

    def test_their_own_weights_learn_and_gradients_end_at_their_block(self, model: HybridASRForCTC) -> None:
        features, frame_mask = model.encode(*padded_batch(LENGTHS, torch.float32))
        hidden = model.run_stack(features, frame_mask, num_blocks=1)
        model.ctc_loss(model.classify_at(hidden, frame_mask, 1), frame_mask, TestLosses.LABELS).backward()
        reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert {"intermediate_heads.1.norm.weight", "intermediate_heads.1.output.bias"} <= reached
        assert any(name.startswith("layers.0.") for name in reached)
        elsewhere = ("layers.1.", "layers.3.", "lm_head.", "final_norm.", "intermediate_heads.3.")
        assert not [name for name in reached if name.startswith(elsewhere)]


class TestTrainingMode:
    def test_evaluation_is_deterministic_and_training_is_not(self, tiny_config: HybridASRConfig) -> None:
        for field in ("hidden_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop", "mask_prob"):
            model = model_with(tiny_config, **{**NO_RANDOMNESS, field: 0.5})
            audio = utterance(16000)[None]
            assert torch.equal(model(audio).logits, model(audio).logits)
            model.train()
            runs = [model(audio).logits for _ in range(6)]
            assert not all(torch.equal(runs[0], run) for run in runs[1:]), field

    def test_training_without_randomness_equals_evaluation(self, tiny_config: HybridASRConfig) -> None:
        model = model_with(tiny_config, **NO_RANDOMNESS)
        audio = utterance(8000)[None]
        assert torch.equal(model.train()(audio).logits, model.eval()(audio).logits)

    def test_layerdrop_skips_whole_layers_in_training_only(self, tiny_config: HybridASRConfig) -> None:
        model = model_with(tiny_config, **{**NO_RANDOMNESS, "layerdrop": 0.999})
        calls: list[nn.Module] = []
        for layer in model.layers:
            layer.register_forward_hook(lambda module, *_: calls.append(module))
        model(utterance(4000)[None])
        assert calls == list(model.layers)
        calls.clear()
        torch.manual_seed(1)
        model.train()(utterance(4000)[None])
        assert calls == []

    def test_gradient_checkpointing_changes_no_gradient(self, tiny_config: HybridASRConfig) -> None:
        fields = {"hidden_dropout": 0.3, "attention_dropout": 0.3, "layerdrop": 0.0}
        batch = (*padded_batch(LENGTHS, torch.float32), TestLosses.LABELS)
        gradients = []
        for checkpointing in (False, True):
            model = model_with(tiny_config, **fields).train()
            if checkpointing:
                model.gradient_checkpointing_enable()
                assert model.is_gradient_checkpointing
            torch.manual_seed(2)
            model(*batch).loss.backward()
            gradients.append([parameter.grad for parameter in model.parameters() if parameter.requires_grad])
        for plain, recomputed in zip(*gradients, strict=True):
            assert torch.equal(plain, recomputed)

    @pytest.mark.parametrize("blocks", [[], [1]])
    def test_every_parameter_learns(self, tiny_config: HybridASRConfig, blocks: list[int]) -> None:
        model = model_with(tiny_config, layerdrop=0.0, intermediate_ctc_layers=blocks).train()
        model(*padded_batch(LENGTHS, torch.float32), TestLosses.LABELS).loss.backward()
        for name, parameter in model.named_parameters():
            if name in STEP_SCALES:
                assert parameter.grad is None and not parameter.requires_grad, name
            else:
                assert parameter.grad is not None and parameter.grad.abs().max() > 0, name

    def test_the_three_learning_rates_cover_every_parameter_once(self, tiny_model: HybridASRForCTC) -> None:
        encoder, others = tiny_model.encoder_parameters(), tiny_model.other_parameters()
        step_scales = tiny_model.step_scale_parameters()
        assert sorted(map(id, [*encoder, *others, *step_scales])) == sorted(map(id, tiny_model.parameters()))
        assert {id(p) for p in step_scales} == {id(tiny_model.get_parameter(name)) for name in STEP_SCALES}
        assert {id(p) for p in encoder} == {id(p) for p in tiny_model.encoder.parameters()}

    def test_a_few_steps_reduce_the_loss(self, tiny_config: HybridASRConfig) -> None:
        model = model_with(tiny_config, **NO_RANDOMNESS).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        batch = (*padded_batch((8000, 6000), torch.float32), torch.tensor([[5, 6, 7], [8, 9, -100]]))
        losses = []
        for _ in range(12):
            loss = model(*batch).ctc_loss
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses[-1] < 0.5 * losses[0]


def own_weights(model: HybridASRForCTC, batch_size: int, seed: int = 0) -> dict[str, Tensor]:
    """Random fast weights, another set for every utterance and layer, by name."""
    generator = torch.Generator().manual_seed(seed)

    def moved(weight: Tensor) -> Tensor:
        noise = torch.randn(batch_size, *weight.shape, generator=generator, dtype=weight.dtype)
        return weight.detach() + 0.5 * weight.std().item() * noise

    return {name: moved(weight) for layer in model.fast_weights() for name, weight in layer.items()}


def copies_of_initial(model: HybridASRForCTC, batch_size: int) -> dict[str, Tensor]:
    return {
        name: weight.detach().repeat(batch_size, 1, 1, 1)
        for layer in model.fast_weights()
        for name, weight in layer.items()
    }


class TestFastWeights:
    def test_they_are_the_parameters_by_name(self, tiny_model: HybridASRForCTC) -> None:
        layers = tiny_model.fast_weights()
        assert len(layers) == tiny_model.config.num_hidden_layers
        for weights, layer in zip(layers, tiny_model.layers, strict=True):
            assert [weight is getattr(layer.memory, name[-2:]) for name, weight in weights.items()] == [True] * 3
            assert all(tiny_model.get_parameter(name) is weight for name, weight in weights.items())

    @torch.no_grad()
    def test_the_learned_ones_given_explicitly_change_nothing(self, lively_model: HybridASRForCTC) -> None:
        batch = padded_batch(LENGTHS, torch.float64)
        given = lively_model(*batch, weights=copies_of_initial(lively_model, batch_size=4)).logits
        assert (given - lively_model(*batch).logits).abs().max() < 1e-9
        assert torch.equal(lively_model(*batch, weights={}).logits, lively_model(*batch).logits)

    @torch.no_grad()
    def test_each_utterance_uses_its_own(self, lively_model: HybridASRForCTC) -> None:
        input_values, attention_mask = padded_batch(LENGTHS, torch.float64)
        adapted = own_weights(lively_model, batch_size=4)
        together = lively_model(input_values, attention_mask, weights=adapted).logits
        for row, length in enumerate(LENGTHS):
            own = {name: weight[row : row + 1] for name, weight in adapted.items()}
            alone = lively_model(input_values[row : row + 1, :length], weights=own).logits[0]
            assert (together[row, : len(alone)] - alone).abs().max() < 1e-9
            assert (alone - logits_alone(lively_model, length, torch.float64)).abs().max() > 1e-2

    @torch.no_grad()
    def test_what_is_not_given_is_the_learned_one(self, lively_model: HybridASRForCTC) -> None:
        batch = padded_batch(LENGTHS, torch.float64)
        adapted = own_weights(lively_model, batch_size=4)
        name = "layers.1.memory.w1"
        some = lively_model(*batch, weights={name: adapted[name]}).logits
        explicit = {**copies_of_initial(lively_model, batch_size=4), name: adapted[name]}
        assert (some - lively_model(*batch, weights=explicit).logits).abs().max() < 1e-9
        assert (some - lively_model(*batch).logits).abs().max() > 1e-2

    @torch.no_grad()
    def test_the_stack_takes_them_as_the_whole_model_does(self, lively_model: HybridASRForCTC) -> None:
        batch = padded_batch(LENGTHS, torch.float64)
        features, frame_mask = lively_model.encode(*batch)
        adapted = own_weights(lively_model, batch_size=4)
        hidden = lively_model.run_stack(features, frame_mask, weights=adapted)
        expected = lively_model(*batch, weights=adapted, output_hidden_states=True).hidden_states[0]
        assert torch.equal(hidden, expected)

    @torch.no_grad()
    def test_nothing_of_them_stays_in_the_model(self, tiny_model: HybridASRForCTC) -> None:
        audio = utterance(8000)[None]
        parameters = {name: parameter.clone() for name, parameter in tiny_model.named_parameters()}
        before = tiny_model(audio).logits
        adapted = tiny_model(audio, weights=own_weights(tiny_model, 1)).logits
        assert (adapted - before).abs().max() > 1e-2
        assert torch.equal(tiny_model(audio).logits, before)
        assert all(torch.equal(parameter, parameters[name]) for name, parameter in tiny_model.named_parameters())

    def test_gradients_reach_given_weights_and_not_the_parameters(self, lively_model: HybridASRForCTC) -> None:
        """What adaptation needs: a gradient for each utterance's own copy, independent of its neighbours."""
        features, frame_mask = lively_model.encode(*padded_batch((4000, 6000), torch.float64))
        leaves = {name: each.requires_grad_() for name, each in copies_of_initial(lively_model, batch_size=2).items()}
        hidden = lively_model.run_stack(features.detach(), frame_mask, weights=leaves)
        hidden[0][frame_mask[0]].square().mul(torch.arange(32)).sum().backward()
        for weight in leaves.values():
            assert weight.grad[0].abs().max() > 0
            assert (weight.grad[1] == 0).all()
        assert all(layer.memory.w0.grad is None for layer in lively_model.layers)

    @torch.no_grad()
    def test_chunk_size_does_not_change_logits(self, tiny_config: HybridASRConfig) -> None:
        logits = [
            enliven(model_with(tiny_config, lact_chunk_size=size))(*padded_batch(LENGTHS, torch.float64)).logits
            for size in (1, 7, 10_000)
        ]
        assert (logits[0] - logits[2]).abs().max() < 1e-9
        assert (logits[1] - logits[2]).abs().max() < 1e-9

    @pytest.mark.parametrize("num_frames", [1, 2, 49])
    @torch.no_grad()
    def test_layer_memory_changes_the_output_at_every_length(
        self, lively_model: HybridASRForCTC, num_frames: int
    ) -> None:
        """Against the same model whose learning rates are zero (softplus(-1e4) = 0)."""
        audio = utterance(lively_model.config.num_samples(num_frames), dtype=torch.float64)[None]
        unlearning = copy.deepcopy(lively_model)
        for layer in unlearning.layers:
            layer.memory.lr_proj.weight.zero_()
            layer.memory.lr_proj.bias.fill_(-1e4)
        assert (lively_model(audio).logits - unlearning(audio).logits).abs().max() > 1e-2
        assert unlearning(audio).logits.abs().max() > 0.1


class TestFrontEnd:
    @staticmethod
    def own_filters(model: HybridASRForCTC, batch_size: int) -> dict[str, Tensor]:
        """Another random change of every filter for every utterance, as leaves."""
        generator = torch.Generator().manual_seed(7)

        def own(filters: Tensor) -> Tensor:
            noise = torch.randn(batch_size, *filters.shape, generator=generator, dtype=filters.dtype)
            return (filters.detach() + 0.2 * filters.std().item() * noise).requires_grad_()

        return {name: own(filters) for layer in model.front_end_weights() for name, filters in layer.items()}

    @pytest.mark.parametrize("norm", ["group", "layer", "moonshine"])
    def test_one_utterance_without_copies_to_keep_apart_is_one_of_many(
        self, tiny_config: HybridASRConfig, norm: str
    ) -> None:
        """One utterance takes a plain convolution, two take grouped ones: features and gradients are the same."""
        sizes = {"conv_kernel": [127, 7, 3], "conv_stride": [64, 3, 2], "conv_dim": [16, 16, tiny_config.hidden_size]}
        model = model_with(tiny_config, feat_extract_norm=norm, **(sizes if norm == "moonshine" else {}))
        front_end = self.own_filters(model, batch_size=2)
        audio = torch.stack([utterance(4000, seed) for seed in (1, 2)])
        together, mask = model.encode(audio, torch.ones(2, 4000, dtype=torch.long), front_end)
        weights = torch.sin(torch.arange(together[0].numel())).view_as(together[0])
        gradients = torch.autograd.grad((together * weights).sum(), list(front_end.values()))
        learned, _ = model.encode(audio)
        for row in range(2):
            for lengths in (None, torch.ones(1, 4000, dtype=torch.long)):
                own = {name: filters[row : row + 1].detach().requires_grad_() for name, filters in front_end.items()}
                alone, alone_mask = model.encode(audio[row : row + 1], lengths, own)
                assert alone_mask.tolist() == mask[row : row + 1].tolist()
                torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-5)
                assert (alone[0] - learned[row]).abs().max() > 1e-2
                own_gradients = torch.autograd.grad((alone[0] * weights).sum(), list(own.values()))
                for own_gradient, gradient in zip(own_gradients, gradients, strict=True):
                    largest = gradient.abs().max().item()
                    assert largest > 1e-3
                    torch.testing.assert_close(own_gradient[0], gradient[row], rtol=0, atol=1e-5 * max(1, largest))

    @torch.no_grad()
    def test_own_filters_without_a_mask_are_those_with_a_mask_of_ones(self, tiny_model: HybridASRForCTC) -> None:
        front_end = self.own_filters(tiny_model, batch_size=2)
        audio = torch.stack([utterance(4000, seed) for seed in (1, 2)])
        features, frame_mask = tiny_model.encode(audio, None, front_end)
        assert frame_mask.all()
        masked, _ = tiny_model.encode(audio, torch.ones(2, 4000, dtype=torch.long), front_end)
        torch.testing.assert_close(features, masked, rtol=0, atol=1e-5)

    @torch.no_grad()
    def test_the_whole_model_takes_them_and_keeps_nothing(self, tiny_model: HybridASRForCTC) -> None:
        front_end = self.own_filters(tiny_model, batch_size=1)
        audio = utterance(4000)[None]
        before = tiny_model(audio).logits
        features, frame_mask = tiny_model.encode(audio, weights=front_end)
        expected = tiny_model.classify(tiny_model.run_stack(features, frame_mask), frame_mask)
        assert torch.equal(tiny_model(audio, weights=front_end).logits, expected)
        assert (expected - before).abs().max() > 1e-2
        assert torch.equal(tiny_model(audio).logits, before)

    @torch.no_grad()
    def test_layers_can_be_run_in_two_parts(self, tiny_model: HybridASRForCTC) -> None:
        filters = tiny_model.filters_of(self.own_filters(tiny_model, batch_size=2))
        audio = torch.stack([utterance(4000, seed) for seed in (1, 2)])[:, None]
        lengths = torch.tensor([4000, 3500])
        encoder = tiny_model.encoder
        whole = encoder.run_layers(audio, lengths, filters)
        for cut in range(8):
            first = encoder.run_layers(audio, lengths, filters, end=cut)
            assert torch.equal(encoder.run_layers(first, lengths, filters, first=cut), whole)


class TestBlocks:
    @torch.no_grad()
    def test_they_can_be_run_in_two_parts(self, tiny_config: HybridASRConfig) -> None:
        model = enliven(model_with(tiny_config, num_hidden_layers=3))
        features, frame_mask = model.encode(*padded_batch(LENGTHS, torch.float64))
        weights = own_weights(model, batch_size=4)
        states = list(model.run_blocks(features, frame_mask, weights))
        assert len(states) == 3
        for cut in range(4):
            before = list(model.run_blocks(features, frame_mask, weights, end=cut))
            start = last_state(features, before)
            after = list(model.run_blocks(start, frame_mask, weights, first=cut))
            assert len(before) + len(after) == 3
            for state, expected in zip(before + after, states, strict=True):
                assert torch.equal(state, expected)

    def test_the_last_of_no_states_is_where_they_would_have_begun(self) -> None:
        start, one, other = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)
        assert last_state(start, iter(())) is start
        assert last_state(start, iter((one, other))) is other

    @torch.no_grad()
    def test_the_stack_ends_where_it_is_told(self, tiny_config: HybridASRConfig) -> None:
        model = enliven(model_with(tiny_config, num_hidden_layers=3))
        features, frame_mask = model.encode(*padded_batch(LENGTHS, torch.float64))
        states = list(model.run_blocks(features, frame_mask))
        assert torch.equal(model.run_stack(features, frame_mask, num_blocks=0), features)
        assert torch.equal(model.run_stack(features, frame_mask, num_blocks=2), states[1])
        assert torch.equal(model.run_stack(features, frame_mask), model.final_norm(states[2]))
        assert not torch.equal(model.run_stack(features, frame_mask, num_blocks=3), model.final_norm(states[2]))


class TestStepScales:
    @pytest.mark.parametrize(
        ("parameters", "learned"),
        [
            ("fast_weights", ["fast_weight_log_step_scales"]),
            ("front_end", ["front_end_log_step_scales"]),
            ("both", ["fast_weight_log_step_scales", "front_end_log_step_scales"]),
        ],
    )
    def test_training_learns_those_of_what_is_adapted(
        self, tiny_model: HybridASRForCTC, parameters: str, learned: list[str]
    ) -> None:
        tiny_model.learn_step_scales("both")
        tiny_model.learn_step_scales(parameters)
        assert [name for name in STEP_SCALES if tiny_model.get_parameter(name).requires_grad] == learned

    def test_one_for_each_layer_and_1_to_begin_with(self, tiny_model: HybridASRForCTC) -> None:
        scales = tiny_model.step_scales()
        layers = [*tiny_model.fast_weights(), *tiny_model.front_end_weights()]
        assert list(scales) == [name for layer in layers for name in layer]
        assert [scale.item() for scale in scales.values()] == [1] * (3 * 2 + 7)

    def test_each_belongs_to_the_weights_of_its_layer(self, tiny_model: HybridASRForCTC) -> None:
        with torch.no_grad():
            tiny_model.fast_weight_log_step_scales.copy_(torch.tensor([2.0, 3.0]).log())
            tiny_model.front_end_log_step_scales.copy_(torch.arange(4.0, 11.0).log())
        scales = {name: round(scale.item(), 4) for name, scale in tiny_model.step_scales().items()}
        assert scales == {
            **{f"layers.{block}.memory.w{index}": 2 + block for block in range(2) for index in range(3)},
            **{f"encoder.conv_layers.{layer}.conv.weight": 4 + layer for layer in range(7)},
        }

    def test_a_log_mel_front_end_has_none(self, tiny_config: HybridASRConfig, tmp_path: Path) -> None:
        model = model_with(tiny_config, use_wav2vec2_encoder=False)
        assert model.front_end_weights() == []
        assert [name for name in model.step_scales() if "memory" not in name] == []
        model.save_pretrained(tmp_path)
        assert HybridASRForCTC.from_pretrained(tmp_path).front_end_log_step_scales.shape == (0,)

    def test_they_are_saved_and_loading_freezes_them(self, tiny_model: HybridASRForCTC, tmp_path: Path) -> None:
        tiny_model.learn_step_scales("both")
        with torch.no_grad():
            tiny_model.fast_weight_log_step_scales.copy_(torch.tensor([0.25, -3.0]))
            tiny_model.front_end_log_step_scales.copy_(torch.arange(7) - 3.0)
        tiny_model.save_pretrained(tmp_path)
        loaded = HybridASRForCTC.from_pretrained(tmp_path)
        assert loaded.fast_weight_log_step_scales.tolist() == [0.25, -3.0]
        assert loaded.front_end_log_step_scales.tolist() == [-3, -2, -1, 0, 1, 2, 3]
        frozen = {name for name, parameter in loaded.named_parameters() if not parameter.requires_grad}
        assert frozen == set(STEP_SCALES)

    def test_a_checkpoint_from_before_there_were_any_has_scales_of_1(
        self, tiny_model: HybridASRForCTC, tmp_path: Path
    ) -> None:
        state = {name: tensor for name, tensor in tiny_model.state_dict().items() if name not in STEP_SCALES}
        tiny_model.save_pretrained(tmp_path, state_dict=state)
        loaded = HybridASRForCTC.from_pretrained(tmp_path)
        assert [scale.item() for scale in loaded.step_scales().values()] == [1] * (3 * 2 + 7)
        assert torch.equal(loaded.lm_head.weight, tiny_model.lm_head.weight)


class TestSaving:
    @pytest.mark.parametrize("max_shard_size", ["5GB", "40KB"])
    @torch.no_grad()
    def test_round_trip_is_bitwise(self, tiny_model: HybridASRForCTC, tmp_path: Path, max_shard_size: str) -> None:
        tiny_model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
        assert len(list(tmp_path.glob("*.safetensors"))) == 1 if max_shard_size == "5GB" else 3
        for loader in (HybridASRForCTC, AutoModelForCTC):
            loaded = loader.from_pretrained(tmp_path)
            assert type(loaded) is HybridASRForCTC
            assert not loaded.training
            state, expected = loaded.state_dict(), tiny_model.state_dict()
            assert list(state) == list(expected)
            assert all(torch.equal(state[name], expected[name]) for name in expected)
            batch = padded_batch(LENGTHS, torch.float32)
            assert torch.equal(loaded(*batch).logits, tiny_model(*batch).logits)

    @pytest.mark.parametrize(
        "fields",
        [
            {"use_wav2vec2_encoder": False},
            {"feat_extract_norm": "layer", "conv_bias": True},
            {"intermediate_ctc_layers": [1]},
        ],
    )
    @torch.no_grad()
    def test_round_trip_of_variants(self, tiny_config: HybridASRConfig, fields: dict[str, Any], tmp_path: Path) -> None:
        model = model_with(tiny_config, **fields)
        model.save_pretrained(tmp_path)
        batch = padded_batch(LENGTHS, torch.float32)
        loaded = HybridASRForCTC.from_pretrained(tmp_path)
        assert torch.equal(loaded(*batch).logits, model(*batch).logits)
        state = loaded.state_dict()
        assert state.keys() == model.state_dict().keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())

    def test_registered_with_the_auto_classes(self, tiny_model: HybridASRForCTC, tmp_path: Path) -> None:
        tiny_model.save_pretrained(tmp_path)
        config = AutoConfig.from_pretrained(tmp_path)
        assert type(config) is HybridASRConfig
        assert config.to_dict().keys() == tiny_model.config.to_dict().keys()
        assert type(AutoModelForCTC.from_config(config)) is HybridASRForCTC
        assert AutoConfig.for_model("hybrid_asr").model_type == "hybrid_asr"

    def test_output_is_a_model_output_and_a_tuple_on_request(self, tiny_model: HybridASRForCTC) -> None:
        audio = utterance(4000)[None]
        output = tiny_model(audio)
        assert isinstance(output, HybridASROutput)
        assert output.loss is None
        first, *_ = tiny_model(audio, return_dict=False)
        assert torch.equal(first, output.logits)

    def test_initialisation_is_reproducible(self, tiny_config: HybridASRConfig) -> None:
        first, second = model_with(tiny_config), model_with(tiny_config)
        for name, parameter in first.named_parameters():
            assert parameter.isfinite().all(), name
            assert torch.equal(parameter, second.get_parameter(name)), name


class TestPipeline:
    @pytest.fixture
    def checkpoint(self, tiny_model: HybridASRForCTC, tmp_path: Path) -> Path:
        """A model folder with its processor; the output layer is large, so that many characters are said."""
        torch.nn.init.normal_(tiny_model.lm_head.weight, std=3.0)
        vocabulary = build_vocabulary([ALPHABET])
        tiny_model.lm_head.bias.data[vocabulary["<unk>"]] = -1e3  # no transcript teaches a model to say it
        assert len(vocabulary) == tiny_model.config.vocab_size
        tiny_model.save_pretrained(tmp_path)
        make_processor(vocabulary).save_pretrained(tmp_path)
        return tmp_path

    def test_recognises_an_array(self, checkpoint: Path) -> None:
        recognise = pipeline("automatic-speech-recognition", model=str(checkpoint))
        assert type(recognise.model) is HybridASRForCTC
        audio = utterance(16000).numpy()
        text = recognise(audio)["text"]
        assert len(text) > 5
        assert set(text) <= set(ALPHABET + " ")
        normalised = torch.from_numpy((audio - audio.mean()) / np.sqrt(audio.var() + 1e-7))[None]
        greedy = HybridASRForCTC.from_pretrained(checkpoint)(normalised).logits[0].argmax(-1)
        characters = ["", "", " ", *sorted(ALPHABET)]
        collapsed = [characters[token] for token in torch.unique_consecutive(greedy)]
        assert text == " ".join("".join(collapsed).split())

    def test_recognises_a_batch_of_dictionaries(self, checkpoint: Path) -> None:
        recognise = pipeline("automatic-speech-recognition", model=str(checkpoint))
        inputs = [{"raw": utterance(length, seed=length).numpy(), "sampling_rate": 16000} for length in LENGTHS]
        together = recognise([dict(item) for item in inputs], batch_size=4)
        assert [result["text"] for result in together] == [recognise(dict(item))["text"] for item in inputs]

    def test_word_times_count_frames_of_this_model(self, checkpoint: Path) -> None:
        recognise = pipeline("automatic-speech-recognition", model=str(checkpoint))
        chunks = recognise(utterance(16000).numpy(), return_timestamps="char")["chunks"]
        times = [time for chunk in chunks for time in chunk["timestamp"]]
        assert times == sorted(times)
        assert times[0] >= 0
        assert 0.7 < times[-1] <= 1.0

    def test_long_audio_in_chunks(self, checkpoint: Path) -> None:
        recognise = pipeline("automatic-speech-recognition", model=str(checkpoint))
        text = recognise(utterance(32000).numpy(), chunk_length_s=0.6, stride_length_s=0.1)["text"]
        assert len(text) > 5


class TestParameterCounts:
    @pytest.fixture(scope="class")
    def counts(self) -> dict[str, float]:
        with torch.device("meta"):
            return count_parameters(HybridASRForCTC(HybridASRConfig()))

    def test_full_size_matches_the_specification(self, counts: dict[str, float]) -> None:
        """16 layers x 3 matrices x 768 x 1536, whatever the heads; and three 768 x 768 projections beside them."""
        assert counts["fast_weights"] == 16 * 3 * 768 * 1536 == 56_623_104
        assert counts["adapter"] == 56_623_104 + 16 * 3 * 768 * 768
        assert counts["adapter"] / 1e6 == pytest.approx(84.9, abs=0.05)
        assert counts["fast_weight_share"] == pytest.approx(0.27, abs=0.01)

    def test_full_size_total(self, counts: dict[str, float]) -> None:
        """Counted by hand: about 207 M in the specification's terms, plus memory output projections, two heads
        and the scales of adaptation's steps, one for each block and each conv layer.
        """
        conv = 512 * 10 + 4 * 512 * 512 * 3 + 2 * 512 * 512 * 2 + 2 * 512
        projection = 2 * 512 + 512 * 768 + 768
        attention = 4 * (768 * 768 + 768)
        memory = 3 * 768 * 1536 + 4 * 768 * 768 + (768 + 1) * 3 * 4 + 768 // 4
        feed_forward = 768 * 3072 + 3072 + 3072 * 768 + 768
        norms = 3 * 2 * 768
        mask_vector, final_norm, prediction_head, output_layer = 768, 2 * 768, 768 * 768 + 768, 768 * 30 + 30
        assert counts["total"] == (
            conv + projection + 16 * (attention + memory + feed_forward + norms)
            + mask_vector + final_norm + prediction_head + output_layer
            + 16 + 7
        )  # fmt: skip

    def test_number_of_heads_does_not_change_the_fast_weights(self) -> None:
        with torch.device("meta"):
            single = count_parameters(HybridASRForCTC(HybridASRConfig(num_lact_heads=1)))
        assert single["fast_weights"] == 56_623_104

    def test_total_is_that_of_the_model(self, tiny_model: HybridASRForCTC) -> None:
        assert count_parameters(tiny_model)["total"] == sum(parameter.numel() for parameter in tiny_model.parameters())


def test_the_encoder_is_frozen_by_the_name_that_transformers_gives_it(tiny_model: HybridASRForCTC) -> None:
    assert all(parameter.requires_grad for parameter in tiny_model.encoder_parameters())
    tiny_model.freeze_feature_encoder()
    assert not any(parameter.requires_grad for parameter in tiny_model.encoder_parameters())
    assert tiny_model.lm_head.weight.requires_grad
