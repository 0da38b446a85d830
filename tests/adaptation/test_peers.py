"""The peers: SUTA as published, which parameters move, and that nothing of a model ever changes."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Wav2Vec2ForCTC

from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.peers import PEERS, Peer, adapt_with_peer, parameter_names
from lact_asr_model.inference.ttt_losses import entropy_loss
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

SUTA, TENT = PEERS["suta"], PEERS["tent"]


@pytest.fixture(params=["wav2vec2", "tiny_model"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return request.getfixturevalue(request.param)


@pytest.fixture
def inputs() -> dict[str, Tensor]:
    return {"input_values": torch.randn(1, 8000, generator=torch.Generator().manual_seed(1))}


@contextmanager
def unchanged(model: PreTrainedModel) -> Iterator[None]:
    """Weights (bitwise), gradients, requires_grad and modes are the same afterwards."""

    def state() -> list[tuple[bytes, bool, bool]]:
        parameters = model.parameters()
        return [(p.detach().numpy().tobytes(), p.requires_grad, p.grad is None) for p in parameters]

    before, modes = state(), [module.training for module in model.modules()]
    yield
    assert state() == before
    assert [module.training for module in model.modules()] == modes


def published_suta(model: Wav2Vec2ForCTC, input_values: Tensor, steps: int) -> tuple[list[float], Tensor]:
    """Lin et al. 2022, section 3, written down as it is there; changes the model."""
    parameters: list[nn.Parameter] = []
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            parameters += [module.weight, module.bias]
    parameters += model.wav2vec2.feature_extractor.parameters()
    parameters += model.wav2vec2.feature_projection.parameters()
    optimizer = torch.optim.AdamW(list(dict.fromkeys(parameters)), lr=2e-5, weight_decay=0.0)
    losses = []
    for _ in range(steps):
        logits = model(input_values).logits[0]
        probabilities = (logits / 2.5).softmax(dim=1)
        entropies = -(probabilities * probabilities.log()).sum(dim=1)
        num_frames, num_classes = probabilities.shape

        entropy = entropies[logits.argmax(dim=1) != 0].mean()
        weights = 1 + torch.exp(-entropies.detach())
        weights = num_frames * weights / weights.sum()
        confusion = torch.zeros(num_classes, num_classes)
        for weight, row in zip(weights, probabilities, strict=True):
            confusion = confusion + weight * torch.outer(row, row)
        confusion = confusion / confusion.sum(dim=1, keepdim=True)
        class_confusion = (confusion.sum() - confusion.trace()) / num_classes

        loss = 0.3 * entropy + 0.7 * class_confusion
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses, model(input_values).logits.detach()


def test_suta_is_the_published_one(wav2vec2: Wav2Vec2ForCTC, inputs: dict[str, Tensor]) -> None:
    expected_losses, expected_logits = published_suta(copy.deepcopy(wav2vec2), inputs["input_values"], steps=10)
    adaptation = adapt_with_peer(wav2vec2, inputs, SUTA)
    assert adaptation.losses == pytest.approx(expected_losses, rel=1e-5)
    torch.testing.assert_close(adaptation.logits, expected_logits, rtol=1e-4, atol=1e-4)
    assert adaptation.losses[-1] < adaptation.losses[0]


def test_the_mean_is_that_of_the_models_answer_and_of_sutas(
    wav2vec2: Wav2Vec2ForCTC, inputs: dict[str, Tensor]
) -> None:
    with torch.no_grad():
        before = torch.log_softmax(wav2vec2(**inputs).logits, dim=-1)
    after = torch.log_softmax(adapt_with_peer(wav2vec2, inputs, SUTA, steps=3).logits, dim=-1)
    mean = adapt_with_peer(wav2vec2, inputs, PEERS["suta_mean"], steps=3).logits
    assert (after - before).abs().max() > 1e-4
    torch.testing.assert_close(mean, (before + after) / 2)


@pytest.mark.parametrize("peer", [TENT, SUTA], ids=["tent", "suta"])
def test_the_model_stays_as_it_is_and_every_utterance_starts_from_it(
    model: PreTrainedModel, inputs: dict[str, Tensor], peer: Peer
) -> None:
    model.train()
    with unchanged(model), torch.no_grad():
        first = adapt_with_peer(model, inputs, peer, steps=2)
        adapt_with_peer(model, {"input_values": torch.randn(1, 6000)}, peer, steps=1)
        again = adapt_with_peer(model, inputs, peer, steps=2)
    assert again.losses == first.losses  # so dropout was off, too
    assert torch.equal(again.logits, first.logits)
    assert len(first.losses) == 2
    assert any(not torch.equal(copy, model.get_parameter(name)) for name, copy in first.parameters.items())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_model_stays_as_it_is_after_an_exception(
    model: PreTrainedModel, inputs: dict[str, Tensor], error: type[BaseException]
) -> None:
    calls = 0

    def fail_in_the_second_pass(module: nn.Module, arguments: object, output: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise error

    model.lm_head.register_forward_hook(fail_in_the_second_pass)
    with unchanged(model), pytest.raises(error):
        adapt_with_peer(model, inputs, SUTA)
    assert calls == 2


def test_each_parameter_is_adapted_once(model: PreTrainedModel) -> None:
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    for with_front_end in (False, True):
        names = parameter_names(model, with_front_end)
        assert len(names) == len(set(names))
        assert {f"{norm}.weight" for norm in norms} <= set(names)
        others = {name for name in names if name.rpartition(".")[0] not in norms}
        assert bool(others) == with_front_end
        assert all("feature_" in name or name.startswith("encoder.") for name in others)


def test_suta_moves_the_conv_encoder_and_the_projection(wav2vec2: Wav2Vec2ForCTC, tiny_model: HybridASRForCTC) -> None:
    theirs, ours = parameter_names(wav2vec2, True), parameter_names(tiny_model, True)
    assert {"wav2vec2.feature_extractor.conv_layers.0.conv.weight", "wav2vec2.feature_projection.projection.bias"} <= {
        *theirs
    }
    assert not any("attention.k_proj" in name or "lm_head" in name for name in theirs + ours)
    assert {name for name, _ in tiny_model.named_parameters() if name.startswith("encoder.")} <= set(ours)


def test_a_model_without_known_front_end_is_refused(wav2vec2: Wav2Vec2ForCTC) -> None:
    wav2vec2.base_model_prefix = "elsewhere"
    with pytest.raises(UserError, match="no conv encoder for SUTA to adapt"):
        parameter_names(wav2vec2, True)


def test_where_every_frame_says_blank_tent_leaves_the_weights(
    model: PreTrainedModel, inputs: dict[str, Tensor]
) -> None:
    with torch.no_grad():
        model.lm_head.bias[model.config.pad_token_id] = 1e4
    tent, suta = (adapt_with_peer(model, inputs, peer, steps=2) for peer in (TENT, SUTA))
    assert tent.losses == [0, 0]
    assert all(torch.equal(copy, model.get_parameter(name)) for name, copy in tent.parameters.items())
    assert suta.logits.isfinite().all()


@pytest.mark.parametrize("peer", [TENT, SUTA], ids=["tent", "suta"])
@pytest.mark.parametrize(
    "input_values",
    [torch.zeros(1, 16000), torch.randn(1, 1600, generator=torch.Generator().manual_seed(2))],
    ids=["silence", "0.1 s"],
)
def test_silence_and_a_tenth_of_a_second_are_survived(model: PreTrainedModel, peer: Peer, input_values: Tensor) -> None:
    adaptation = adapt_with_peer(model, {"input_values": input_values}, peer)
    assert len(adaptation.losses) == peer.steps
    assert torch.tensor(adaptation.losses).isfinite().all()
    assert adaptation.logits.isfinite().all()
    assert all(copy.isfinite().all() for copy in adaptation.parameters.values())


def test_a_gradient_that_is_not_finite_ends_adaptation(model: PreTrainedModel, inputs: dict[str, Tensor]) -> None:
    def infinite_loss(*arguments: object) -> Tensor:
        return entropy_loss(*arguments) * float("inf")  # type: ignore[arg-type]

    adaptation = adapt_with_peer(model, inputs, Peer(infinite_loss, temperature=1.0, adapts_front_end=True))
    assert len(adaptation.losses) == 1
    with torch.no_grad():
        torch.testing.assert_close(adaptation.logits, model(**inputs).logits)
