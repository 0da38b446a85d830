"""A batch in pieces: the same gradient, the memory that is counted, and what is chosen from both."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.masks import sample_span_mask
from lact_asr_model.training.arguments import TrainingArguments
from lact_asr_model.training.interruption import StopRequest
from lact_asr_model.training.micro_batches import Memory, MicroBatching
from lact_asr_model.training.trainer import Trainer

NO_DROPOUT = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0, "layerdrop": 0.0}
KINDS = {
    "masked prediction and an intermediate head": (
        {"intermediate_ctc_layers": [1], "masked_prediction_weight": 0.5, "mask_prob": 0.3},
        {},
    ),
    "--enable_ttt": ({"ttt_loss_type": "entropy_mcc", "ttt_steps": 2}, {"enable_ttt": True}),
    "--enable_ttt by masked prediction, exact": (
        {"ttt_parameters": "both", "ttt_mask_prob": 0.3},
        {"enable_ttt": True, "ttt_gradient": "exact"},
    ),
}


def spans_by_length(model: HybridASRForCTC, frame_mask: Tensor) -> Tensor:
    """Spans that do not depend on what else was drawn before."""
    lengths = frame_mask.sum(dim=1).tolist()
    return sample_span_mask(lengths, frame_mask.shape[1], model.config.mask_prob, 3, seeds=lengths)


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_of_a_batch_have_its_gradient(
    kind: str,
    make_arguments: Callable[..., TrainingArguments],
    make_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(HybridASRForCTC, "_sample_training_spans", spans_by_length)
    config, options = KINDS[kind]
    arguments = make_arguments(config_path=make_config(**NO_DROPOUT, **config), batch_size=7, **options)
    trainer = Trainer(arguments, StopRequest())
    model = trainer.state.model.double().train()
    (batch,) = next(trainer._rest_of_epoch())
    batch["input_values"] = batch["input_values"].double()
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    assert len(lengths) == 7 and len(set(lengths)) > 2

    found: dict[int, dict[str, Tensor]] = {}
    for size in (7, 3, 1):
        plan = MicroBatching(Memory(held=0, limit=1.2 * size), False, longest_seconds=1.0, utterance_bytes=1.0)
        pieces = list(plan.cut(batch))
        assert [name for piece in pieces for name in piece["ids"]] == batch["ids"]
        model.zero_grad()
        trainer._accumulate_gradients(pieces, len(lengths))
        assert len(pieces) == {7: 1, 3: 3, 1: 7}[size]
        found[size] = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    trainer.close()
    expected = found.pop(7)
    assert any(gradient.abs().max() > 1e-2 for gradient in expected.values())
    for actual in found.values():
        assert actual.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(actual[name], gradient, rtol=1e-5, atol=1e-7, msg=name)
