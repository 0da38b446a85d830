"""Training through adaptation: its gradients against finite differences, and that it learns what it is for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import Wav2Vec2Processor

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.options import SELF_SUPERVISED, AdaptationOptions
from lact_asr_model.adaptation.procedure import adapt, adapt_for_training, losses_to_lower, moving_weights
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.newton_schulz import newton_schulz

LENGTHS_SAMPLES = [4000, 3000]
PARAMETERS = ("fast_weights", "front_end", "both")
Batch = dict[str, Tensor]


@pytest.fixture
def config(tiny_config: HybridASRConfig) -> HybridASRConfig:
    """With nothing random in it."""
    for name in ("hidden_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop", "mask_prob"):
        setattr(tiny_config, name, 0.0)
    return tiny_config


@pytest.fixture
def model(config: HybridASRConfig) -> HybridASRForCTC:
    """Float64, in training mode, with both kinds of steps to be learned."""
    return training_model(config)


def training_model(config: HybridASRConfig) -> HybridASRForCTC:
    torch.manual_seed(0)
    model = HybridASRForCTC(config).double().train()
    model.learn_step_scales("both")
    return model


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(1)
    attention_mask = (torch.arange(max(LENGTHS_SAMPLES)) < torch.tensor(LENGTHS_SAMPLES)[:, None]).long()
    input_values = torch.randn(attention_mask.shape, dtype=torch.float64) * attention_mask
    return {"input_values": input_values, "attention_mask": attention_mask}


@pytest.fixture
def wrap(processor: Wav2Vec2Processor) -> Callable[[HybridASRForCTC], HybridAcousticModel]:
    return lambda model: HybridAcousticModel(model, processor)


@contextmanager
def evaluating(model: HybridASRForCTC) -> Iterator[None]:
    """In evaluation mode, and with attention that can be differentiated twice."""
    model.eval()
    with sdpa_kernel(SDPBackend.MATH):
        yield
    model.train()


def adapted(
    wrapped: HybridAcousticModel, batch: Batch, options: AdaptationOptions, *, exact: bool, recompute: bool = False
) -> dict[str, Tensor]:
    around_step = partial(evaluating, wrapped.model)
    return adapt_for_training(wrapped, batch, options, exact=exact, recompute=recompute, around_step=around_step)


def outer_loss(
    wrapped: HybridAcousticModel, batch: Batch, options: AdaptationOptions, *, exact: bool, recompute: bool = False
) -> Tensor:
    weights = adapted(wrapped, batch, options, exact=exact, recompute=recompute)
    return smooth(wrapped.model(**batch, weights=weights).logits)


def smooth(logits: Tensor) -> Tensor:
    """A smooth function of float64 logits, in the place of the CTC loss, which is computed in float32."""
    weights = torch.sin(torch.arange(logits.numel(), dtype=torch.float64)).view_as(logits)
    return (torch.tanh(logits / 10) * weights).sum()


def slope(model: HybridASRForCTC, name: str, direction: Tensor, loss: Callable[[], Tensor]) -> float:
    """Central finite difference of the loss along a direction of a parameter."""
    parameter, step = model.get_parameter(name), 1e-7
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter.add_(sign * step * direction)
        values.append(loss().item())
        with torch.no_grad():
            parameter.sub_(sign * step * direction)
    return (values[0] - values[1]) / (2 * step)


def check_slopes(model: HybridASRForCTC, names: Sequence[str], loss: Callable[[], Tensor], reference: Callable) -> None:
    """The gradient of `loss` agrees with the finite differences of `reference` along a random direction each."""
    model.zero_grad()
    loss().backward()
    generator = torch.Generator().manual_seed(3)
    for name in names:
        gradient = model.get_parameter(name).grad
        direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        expected = slope(model, name, direction, reference)
        assert expected != 0, name
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=2e-3, abs=1e-6), name


Wrap = Callable[[HybridASRForCTC], HybridAcousticModel]

STACK = ("layers.0.memory.w0", "layers.1.attention.q_proj.weight", "lm_head.weight")
FRONT_END = (
    "encoder.conv_layers.0.conv.weight",
    "encoder.conv_layers.3.conv.weight",
    "feature_projection.projection.weight",
)
SCALES = {
    "fast_weights": ("fast_weight_log_step_scales",),
    "front_end": ("front_end_log_step_scales",),
    "both": ("fast_weight_log_step_scales", "front_end_log_step_scales"),
}


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("parameters", PARAMETERS)
def test_exact_gradients_match_finite_differences(
    model: HybridASRForCTC, batch: Batch, wrap: Wrap, parameters: str, steps: int
) -> None:
    options = AdaptationOptions(
        loss_type="entropy_mcc", parameters=parameters, steps=steps, learning_rate=0.05, front_end_step=0.03
    )

    def loss() -> Tensor:
        return outer_loss(wrap(model), batch, options, exact=True)

    check_slopes(model, (*STACK, *FRONT_END, *SCALES[parameters]), loss, loss)


@pytest.mark.parametrize("changes", [{"layers": "1"}, {"conv_layers": "3", "parameters": "front_end"}], ids=str)
@pytest.mark.parametrize("recompute", [False, True])
def test_exact_gradients_reach_what_is_computed_once_before_the_first_layer_that_moves(
    model: HybridASRForCTC, batch: Batch, wrap: Wrap, changes: dict[str, str], recompute: bool
) -> None:
    options = AdaptationOptions(
        **{"loss_type": "entropy", "steps": 2, "learning_rate": 0.05, "front_end_step": 0.03} | changes
    )

    def loss() -> Tensor:
        return outer_loss(wrap(model), batch, options, exact=True, recompute=recompute)

    check_slopes(model, (*STACK, *FRONT_END), loss, loss)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("exact", [False, True])
def test_gradients_through_an_intermediate_head_match_finite_differences(
    config: HybridASRConfig, batch: Batch, wrap: Wrap, exact: bool, recompute: bool
) -> None:
    """First order: of the parameters behind the head, on which no direction of a step depends."""
    config.num_hidden_layers, config.intermediate_ctc_layers = 3, [2]
    model = training_model(config)
    options = AdaptationOptions(loss_type="entropy", parameters="front_end", exit_layer=2, steps=2, front_end_step=0.03)

    def loss() -> Tensor:
        return outer_loss(wrap(model), batch, options, exact=exact, recompute=exact and recompute)

    behind_the_head = ("layers.2.memory.w0", "lm_head.weight")
    before_it = (*STACK, *FRONT_END, "intermediate_heads.2.output.weight", "front_end_log_step_scales")
    check_slopes(model, (*behind_the_head, *before_it) if exact else behind_the_head, loss, loss)


def test_exact_gradients_through_masked_prediction_match_finite_differences(
    model: HybridASRForCTC, batch: Batch, wrap: Wrap
) -> None:
    """Of the parameters behind the features, which the loss holds constant as targets."""
    options = AdaptationOptions(loss_type="masked_prediction", steps=2, learning_rate=0.05)

    def loss() -> Tensor:
        return outer_loss(wrap(model), batch, options, exact=True)

    check_slopes(model, (*STACK, "masked_prediction_head.weight", *SCALES["fast_weights"]), loss, loss)


@pytest.mark.parametrize("parameters", PARAMETERS)
@pytest.mark.parametrize("loss_type", SELF_SUPERVISED)
def test_first_order_gradients_are_those_with_the_directions_held_constant(
    model: HybridASRForCTC, batch: Batch, wrap: Wrap, loss_type: str, parameters: str
) -> None:
    wrapped = wrap(model)
    options = AdaptationOptions(loss_type=loss_type, parameters=parameters, learning_rate=0.05, front_end_step=0.03)
    leaves = {
        name: weight.detach().clone().requires_grad_()
        for name, weight in moving_weights(wrapped, options).copies(2).items()
    }
    speech = wrapped.listen(batch, leaves.keys(), options)
    losses = losses_to_lower(wrapped, speech, leaves, options)
    gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
    directions = {
        name: newton_schulz(gradient.flatten(2) if "conv" in name else gradient)
        for name, gradient in zip(leaves, gradients, strict=True)
    }
    layers = [*enumerate(model.fast_weights()), *enumerate(model.front_end_weights())]
    layer_of = {name: index for index, layer in layers for name in layer}

    def stepped() -> Tensor:
        """The outer loss after a step of the present parameters in the constant directions, written out."""
        moved = {}
        for name, direction in directions.items():
            old, index = model.get_parameter(name)[None], layer_of[name]
            if "conv" in name:
                length = direction.norm(dim=(1, 2), keepdim=True)
                share = 0.03 * model.front_end_log_step_scales[index].exp()
                moved[name] = old - (share * old.norm() / length * direction).view(2, *old.shape[1:])
            else:
                new = old - 0.05 * model.fast_weight_log_step_scales[index].exp() * direction
                moved[name] = new * old.norm(dim=-2, keepdim=True) / new.norm(dim=-2, keepdim=True)
        return smooth(model(**batch, weights=moved).logits)

    def loss() -> Tensor:
        return outer_loss(wrap(model), batch, options, exact=False)

    assert loss().item() == pytest.approx(stepped().item(), rel=1e-9)
    check_slopes(model, (*STACK, *FRONT_END, *SCALES[parameters]), loss, stepped)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("parameters", PARAMETERS)
def test_the_steps_are_those_of_inference(
    model: HybridASRForCTC, batch: Batch, wrap: Wrap, parameters: str, exact: bool
) -> None:
    options = AdaptationOptions(loss_type="entropy_mcc", parameters=parameters, steps=2, learning_rate=0.05)
    weights = adapted(wrap(model), batch, options, exact=exact)
    assert all(module.training for module in model.modules())
    logits = model(**batch, weights=weights).logits
    expected = adapt(wrap(model.eval()), batch, options)
    assert expected.weights.keys() == weights.keys()
    for name, weight in expected.weights.items():
        torch.testing.assert_close(weights[name].detach(), weight, rtol=0, atol=1e-9)
        assert weights[name].requires_grad
    torch.testing.assert_close(logits.detach(), expected.logits, rtol=0, atol=1e-9)


def test_the_steps_run_in_the_context_that_is_given(config: HybridASRConfig, batch: Batch, wrap: Wrap) -> None:
    """With dropout the steps would be random; the context switches it off around them and nowhere else."""
    config.hidden_dropout = 0.5
    model = training_model(config)
    options = AdaptationOptions(loss_type="entropy", steps=2, learning_rate=0.05)
    first, again = (adapted(wrap(model), batch, options, exact=False) for _ in range(2))
    without = adapt_for_training(wrap(model), batch, options)
    for name, weight in first.items():
        assert torch.equal(weight, again[name])
        assert not torch.equal(weight, without[name])


def test_step_sizes_are_learned_only_where_training_goes_through_them(
    model: HybridASRForCTC, batch: Batch, wrap: Wrap
) -> None:
    options = AdaptationOptions(loss_type="entropy_mcc", parameters="front_end", conv_layers="0,2")
    outer_loss(wrap(model), batch, options, exact=False).backward()
    assert model.fast_weight_log_step_scales.grad is None
    moved = model.front_end_log_step_scales.grad != 0
    assert moved.nonzero().flatten().tolist() == [0, 2]


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_recomputing_saves_memory_and_changes_no_gradient(
    model: HybridASRForCTC, batch: Batch, wrap: Wrap, parameters: str
) -> None:
    options = AdaptationOptions(loss_type="entropy_mcc", parameters=parameters, steps=2, learning_rate=0.05)
    saved, gradients = [], []
    for recompute in (False, True):
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        held: dict[int, int] = {}

        def count(tensor: Tensor, held: dict[int, int] = held) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        model.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = outer_loss(wrap(model), batch, options, exact=True, recompute=recompute)
        saved.append(sum(held.values()))
        loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert saved[1] < 0.7 * saved[0]
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-6, atol=1e-9, msg=name)


def test_a_batch_without_frames_trains_plainly(model: HybridASRForCTC, wrap: Wrap) -> None:
    batch = {"input_values": torch.randn(2, 100, dtype=torch.float64)}
    weights = adapted(wrap(model), batch, AdaptationOptions(parameters="both"), exact=True)
    for name, weight in weights.items():
        assert torch.equal(weight[1], model.get_parameter(name))
    assert model(**batch, weights=weights).logits.shape[1] == 0
