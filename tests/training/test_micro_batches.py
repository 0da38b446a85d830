"""A batch in pieces: the same gradient, the memory that is counted, and what is chosen from both."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.masks import sample_span_mask
from lact_asr_model.text import make_processor
from lact_asr_model.training import trainer as trainer_module
from lact_asr_model.training.adapted_step import adapted_weights
from lact_asr_model.training.arguments import TrainingArguments
from lact_asr_model.training.interruption import StopRequest
from lact_asr_model.training.micro_batches import (
    Memory,
    MicroBatching,
    _free_in_container,
    choose_micro_batching,
)
from lact_asr_model.training.setup import recompute_activations
from lact_asr_model.training.step_memory import _LiveBytes, count_working_bytes
from lact_asr_model.training.trainer import Trainer, train

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
        plan = MicroBatching(Memory(held=0, limit=1.2 * size), recompute=False, utterance_bytes=1.0)
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


def test_memory_decides_how_many_at_once_and_whether_activations_are_recomputed() -> None:
    kept, recomputed = 10e9 / 16, 2e9 / 16  # for 15 s and an utterance that weighs as much as one more

    def choose(limit: float, recompute: bool = False) -> MicroBatching:
        memory = Memory(held=4e9, limit=limit)
        return choose_micro_batching(
            lambda seconds, flag: (seconds + 1) * (recomputed if flag else kept), memory, 15.0, recompute=recompute
        )

    found = {
        limit: (choose(limit).recompute, choose(limit).at_once(8, 15.0)) for limit in (5e9, 9e9, 16e9, 40e9, 160e9)
    }
    assert found == {5e9: (True, 1), 9e9: (True, 2), 16e9: (False, 1), 40e9: (False, 3), 160e9: (False, 8)}
    assert choose(40e9, recompute=True).at_once(8, 15.0) == 8
    assert choose(40e9).at_once(8, 31.0) == 1 and choose(40e9).at_once(8, 6.0) == 8
    assert choose(9e9).describe(8, 15.0) == (
        "memory: batches of 8, 2 at a time, with activations recomputed; a peak of 8.0 GB is expected for 15.0 s each, "
        "4.0 GB of it for weights, gradients and optimiser, of 9.0 GB that this process may take"
    )
    assert choose(5e9).describe(8, 15.0).endswith("it may run out: lower --max_audio_samples, or add --mixed_precision")


def test_counting_follows_the_model(tiny_config: HybridASRConfig) -> None:
    tiny_config.num_hidden_layers, tiny_config.attention_dropout = 2, 0.0
    processor = make_processor({"<pad>": 0, "|": 1}, 16000)

    def count(**options: Any) -> int:
        model = HybridASRForCTC(tiny_config)
        before = torch.get_rng_state()
        counted = count_working_bytes(HybridAcousticModel(model, processor), 6.0, **options)
        assert torch.equal(torch.get_rng_state(), before)  # a training is the same, counted or not
        return counted

    kept, recomputed = count(recompute=False), count(recompute=True)
    first_order, exact = (count(recompute=False, ttt_gradient=kind) for kind in ("first_order", "exact"))
    assert recomputed < 0.8 * kept < kept <= first_order < exact
    tiny_config.intermediate_size += 320
    more = 320 * tiny_config.num_frames(96000) * tiny_config.num_hidden_layers
    assert count(recompute=False) - kept == pytest.approx(2 * 4 * more, rel=0.5)  # before and after GELU, float32


@pytest.mark.parametrize("recompute", [False, True])
def test_what_is_counted_is_alive_in_a_real_step(tiny_config: HybridASRConfig, recompute: bool) -> None:
    tiny_config.layerdrop = 0.0
    model = HybridASRForCTC(tiny_config).train()
    acoustic_model = HybridAcousticModel(model, make_processor({"<pad>": 0, "|": 1}, 16000))
    recompute_activations(model, recompute)
    counted = count_working_bytes(acoustic_model, 2.0, recompute=recompute, ttt_gradient="first_order")
    inputs = {
        "input_values": torch.randn(1, 32000),
        "attention_mask": torch.ones(1, 32000, dtype=torch.int64),
        "labels": torch.ones(1, 40, dtype=torch.int64),
    }
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    kept = [tensor for p in model.parameters() for tensor in (p, p.grad) if tensor is not None]
    with _LiveBytes(kept, number=None) as live:
        weights = adapted_weights(acoustic_model, inputs, seed=0, is_exact=False)
        model(**inputs, weights=weights).loss.backward()
    assert live.peak_bytes == counted


def test_what_is_chosen_is_said_before_the_first_step_and_recomputes(
    make_arguments: Callable[..., TrainingArguments],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(trainer_module, "free_bytes", lambda device: (0.0, 1e6))
    train(make_arguments(max_steps=2))
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("memory: "))
    assert "batches of 4, 1 at a time, with activations recomputed" in line and "it may run out" in line
    assert printed.index("memory: ") < printed.index("step 1/2")


def test_a_gpu_out_of_memory_is_one_line_with_the_remedy(
    make_arguments: Callable[..., TrainingArguments], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "_accumulate_gradients", run_out)
    monkeypatch.setattr(trainer_module, "free_bytes", lambda device: (6e9, 2e9))
    with pytest.raises(UserError, match=r"ran out after step 0; give --resume --max_memory_gb 6.4, for smaller micro-"):
        train(make_arguments())


def test_a_container_may_take_what_its_limit_leaves(tmp_path: Path) -> None:
    assert _free_in_container(tmp_path) == math.inf
    files = {
        "memory.max": "8000\n",
        "memory.current": "5000\n",
        "memory.stat": "anon 9\nactive_file 300\ninactive_file 200\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert _free_in_container(tmp_path) == 3500
    (tmp_path / "memory.max").write_text("max\n")
    assert _free_in_container(tmp_path) == math.inf
