"""The peers: SUTA as published, which parameters move, and that nothing of a model ever changes."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Wav2Vec2ForCTC

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.hugging_face import HuggingFaceAcousticModel
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.losses import LOGIT_LOSSES, entropy_loss
from lact_asr_model.adaptation.peers import PEERS, Peer, adapt_with_peer
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

REPOSITORY = Path(__file__).parents[2]
SUTA, TENT = PEERS["suta"], PEERS["tent"]


@pytest.fixture(params=["foreign", "tiny"])
def model(request: pytest.FixtureRequest) -> AcousticModel:
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


def test_suta_is_the_published_one(
    foreign: HuggingFaceAcousticModel, wav2vec2: Wav2Vec2ForCTC, inputs: dict[str, Tensor]
) -> None:
    expected_losses, expected_logits = published_suta(copy.deepcopy(wav2vec2), inputs["input_values"], steps=10)
    adaptation = adapt_with_peer(foreign, inputs, SUTA)
    assert adaptation.losses[:, 0].tolist() == pytest.approx(expected_losses, rel=1e-5)
    torch.testing.assert_close(adaptation.logits, expected_logits, rtol=1e-4, atol=1e-4)
    assert adaptation.losses[-1] < adaptation.losses[0]


def test_tent_is_adam_on_every_norm_down_the_mean_entropy(
    foreign: HuggingFaceAcousticModel, wav2vec2: Wav2Vec2ForCTC, inputs: dict[str, Tensor]
) -> None:
    """Wang et al. 2021, section 3, with the frames that say blank left out as in Lin et al. 2022."""
    reference = copy.deepcopy(wav2vec2)
    norms = [module for module in reference.modules() if isinstance(module, nn.LayerNorm)]
    optimizer = torch.optim.AdamW([each for norm in norms for each in norm.parameters()], lr=1e-3, weight_decay=0.0)
    losses = []
    for _ in range(3):
        logits = reference(**inputs).logits[0]
        entropies = -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1)
        loss = entropies[logits.argmax(dim=1) != 0].mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    adaptation = adapt_with_peer(foreign, inputs, replace(TENT, steps=3, learning_rate=1e-3))
    assert adaptation.losses[:, 0].tolist() == pytest.approx(losses, rel=1e-5)
    assert losses[-1] < losses[0]
    with torch.no_grad():
        torch.testing.assert_close(adaptation.logits, reference(**inputs).logits, rtol=1e-4, atol=1e-4)


def test_the_mean_is_that_of_the_models_answer_and_of_sutas(model: AcousticModel, inputs: dict[str, Tensor]) -> None:
    with torch.no_grad():
        before = torch.log_softmax(model.model(**inputs).logits, dim=-1)
    suta = replace(SUTA, steps=3, learning_rate=1e-3)
    after = torch.log_softmax(adapt_with_peer(model, inputs, suta).logits, dim=-1)
    mean = adapt_with_peer(model, inputs, replace(PEERS["suta_mean"], steps=3, learning_rate=1e-3))
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(mean.logits, (before + after) / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("peer", [TENT, SUTA], ids=["tent", "suta"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_model_stays_as_it_is_and_every_utterance_starts_from_it(
    model: AcousticModel, inputs: dict[str, Tensor], peer: Peer, mode: type
) -> None:
    peer = replace(peer, steps=2)
    with unchanged(model.model), mode():
        first = adapt_with_peer(model, inputs, peer)
        adapt_with_peer(model, {"input_values": torch.randn(1, 6000)}, replace(peer, steps=1))
        again = adapt_with_peer(model, inputs, peer)
    assert torch.equal(again.losses, first.losses)
    assert torch.equal(again.logits, first.logits)
    assert first.losses.shape == (2, 1)
    assert first.is_adapted.tolist() == [True]


def test_dropout_has_no_part_in_it(wav2vec2: Wav2Vec2ForCTC, processor, inputs: dict[str, Tensor]) -> None:
    expected = adapt_with_peer(
        HuggingFaceAcousticModel(wav2vec2, processor.feature_extractor, processor.tokenizer), inputs, SUTA
    )
    with unchanged(wav2vec2.train()):
        in_training = HuggingFaceAcousticModel(wav2vec2, processor.feature_extractor, processor.tokenizer)
        assert torch.equal(adapt_with_peer(in_training, inputs, SUTA).logits, expected.logits)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_model_stays_as_it_is_after_an_exception(
    model: AcousticModel, inputs: dict[str, Tensor], error: type[BaseException]
) -> None:
    calls = 0

    def fail_in_the_second_pass(module: nn.Module, arguments: object, output: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise error

    model.model.lm_head.register_forward_hook(fail_in_the_second_pass)
    with unchanged(model.model), pytest.raises(error):
        adapt_with_peer(model, inputs, SUTA)
    assert calls == 2


def test_tent_moves_every_norm_and_suta_the_front_end_as_well(model: AcousticModel) -> None:
    groups = model.weight_groups()
    norms = {name for name, module in model.model.named_modules() if isinstance(module, nn.LayerNorm)}
    of_norms = {f"{norm}.{kind}" for norm in norms for kind in ("weight", "bias")}
    (tent,), (suta,) = groups["norms"].layers, groups["suta"].layers
    assert set(tent) == of_norms
    front_end = {
        name
        for name, _ in model.model.named_parameters()
        if "feature_" in name.partition("wav2vec2.")[2] or name.startswith(("encoder.", "feature_projection."))
    }
    assert set(suta) == of_norms | front_end
    assert any("conv_layers.0.conv.weight" in name for name in front_end)
    assert any("feature_projection.projection.bias" in name for name in front_end)
    for names in (tent, suta):
        assert all(weight is model.model.get_parameter(name) for name, weight in names.items())


def test_a_model_without_conv_encoder_has_no_suta(processor, inputs: dict[str, Tensor]) -> None:
    config = HybridASRConfig.from_file(REPOSITORY / "configs" / "tiny_asr_config.json")
    config.use_wav2vec2_encoder = False
    model = HybridAcousticModel(HybridASRForCTC(config).eval(), processor)
    with pytest.raises(
        UserError, match="'suta'; this model has no suta to move, it has fast_weights, norms, attention"
    ):
        adapt_with_peer(model, inputs, SUTA)
    assert adapt_with_peer(model, inputs, TENT).is_adapted.all()


def test_several_utterances_are_refused(model: AcousticModel) -> None:
    with pytest.raises(UserError, match="one utterance at a time"):
        adapt_with_peer(model, {"input_values": torch.randn(2, 8000)}, TENT)


def test_where_every_frame_says_blank_tent_leaves_the_weights(model: AcousticModel, inputs: dict[str, Tensor]) -> None:
    with torch.no_grad():
        model.model.lm_head.bias[model.blank_id] = 1e4
    tent, suta = (adapt_with_peer(model, inputs, replace(peer, steps=2)) for peer in (TENT, SUTA))
    assert tent.losses.tolist() == [[0], [0]]
    assert not tent.is_adapted.any()
    assert all(torch.equal(copy[0], model.model.get_parameter(name)) for name, copy in tent.weights.items())
    assert suta.logits.isfinite().all()


@pytest.mark.parametrize("peer", [TENT, SUTA], ids=["tent", "suta"])
@pytest.mark.parametrize(
    "input_values",
    [torch.zeros(1, 16000), torch.randn(1, 1600, generator=torch.Generator().manual_seed(2))],
    ids=["silence", "0.1 s"],
)
def test_silence_and_a_tenth_of_a_second_are_survived(model: AcousticModel, peer: Peer, input_values: Tensor) -> None:
    adaptation = adapt_with_peer(model, {"input_values": input_values}, peer)
    assert len(adaptation.losses) == peer.steps
    assert adaptation.losses.isfinite().all()
    assert adaptation.logits.isfinite().all()
    assert all(copy.isfinite().all() for copy in adaptation.weights.values())


def test_a_gradient_that_is_not_finite_ends_adaptation(
    model: AcousticModel, inputs: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def infinite_loss(*arguments: object) -> Tensor:
        calls.append(1)
        return entropy_loss(*arguments) * float("inf")  # type: ignore[arg-type]

    monkeypatch.setitem(LOGIT_LOSSES, "infinite", infinite_loss)
    adaptation = adapt_with_peer(model, inputs, replace(SUTA, loss_type="infinite"))
    assert len(calls) == 1
    assert not adaptation.is_adapted.any()
    with torch.no_grad():
        torch.testing.assert_close(adaptation.logits, model.model(**inputs).logits)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_learning_rate_that_cannot_be_used_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match="of tent and suta: must be a finite number above 0"):
        replace(TENT, learning_rate=rate)
