"""Training through adaptation: its gradients against finite differences, and that it learns what it is for."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from lact_asr_model.configuration_hybrid_asr import TTT_LOSS_TYPES, TTT_PARAMETERS, HybridASRConfig
from lact_asr_model.inference.ttt_options import TTTOptions
from lact_asr_model.inference.ttt_procedure import adapt, adapted_for_training, self_supervised_losses
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.fast_weights import FastWeights
from lact_asr_model.ops.newton_schulz import newton_schulz

LENGTHS_SAMPLES = [4000, 3000]


@pytest.fixture
def model(tiny_config: HybridASRConfig) -> HybridASRForCTC:
    """Float64, in training mode, with nothing random in it and both kinds of steps to be learned."""
    for name in ("hidden_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop", "mask_prob"):
        setattr(tiny_config, name, 0.0)
    torch.manual_seed(0)
    model = HybridASRForCTC(tiny_config).double().train()
    model.learn_step_scales("both")
    return model


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    attention_mask = (torch.arange(max(LENGTHS_SAMPLES)) < torch.tensor(LENGTHS_SAMPLES)[:, None]).long()
    return torch.randn(attention_mask.shape, dtype=torch.float64) * attention_mask, attention_mask


def outer_loss(model: HybridASRForCTC, batch: tuple[Tensor, Tensor], options: TTTOptions, *, exact: bool) -> Tensor:
    with adapted_for_training(model, *batch, options, exact=exact):
        return smooth(model(*batch).logits)


def smooth(logits: Tensor) -> Tensor:
    """A smooth function of float64 logits, in the place of the CTC loss, which is computed in float32."""
    weights = torch.sin(torch.arange(logits.numel(), dtype=torch.float64)).view_as(logits)
    return (torch.tanh(logits / 10) * weights).sum()


def slope(model: HybridASRForCTC, name: str, direction: Tensor, loss: Callable[[], Tensor]) -> float:
    """Central finite difference of the loss along a direction of a parameter."""
    parameter, step = model.get_parameter(name), 1e-6
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
@pytest.mark.parametrize("parameters", TTT_PARAMETERS)
def test_exact_gradients_match_finite_differences(
    model: HybridASRForCTC, batch: tuple[Tensor, Tensor], parameters: str, steps: int
) -> None:
    options = TTTOptions(
        loss_type="entropy_mcc", parameters=parameters, steps=steps, learning_rate=0.05, front_end_step=0.03
    )

    def loss() -> Tensor:
        return outer_loss(model, batch, options, exact=True)

    check_slopes(model, (*STACK, *FRONT_END, *SCALES[parameters]), loss, loss)


def test_exact_gradients_through_masked_prediction_match_finite_differences(
    model: HybridASRForCTC, batch: tuple[Tensor, Tensor]
) -> None:
    """Of the parameters behind the features, which the loss holds constant as targets."""
    options = TTTOptions(loss_type="masked_prediction", steps=2, learning_rate=0.05)

    def loss() -> Tensor:
        return outer_loss(model, batch, options, exact=True)

    check_slopes(model, (*STACK, "masked_prediction_head.weight", *SCALES["fast_weights"]), loss, loss)


@pytest.mark.parametrize("parameters", TTT_PARAMETERS)
@pytest.mark.parametrize("loss_type", TTT_LOSS_TYPES)
def test_first_order_gradients_are_those_with_the_directions_held_constant(
    model: HybridASRForCTC, batch: tuple[Tensor, Tensor], loss_type: str, parameters: str
) -> None:
    options = TTTOptions(loss_type=loss_type, parameters=parameters, learning_rate=0.05, front_end_step=0.03)
    fast_weights = [
        FastWeights(*(matrix.detach().expand(2, -1, -1, -1).clone().requires_grad_() for matrix in layer))
        for layer in model.initial_fast_weights()
    ]
    filters = {
        name: value.detach().expand(2, *value.shape).clone().requires_grad_()
        for name, value in model.initial_front_end().items()
    }
    features, frame_mask = model.encode(*batch, filters)
    losses = self_supervised_losses(model, features, frame_mask, options, fast_weights=fast_weights)
    leaves = [matrix for layer in fast_weights for matrix in layer] + list(filters.values())
    gradients = torch.autograd.grad(losses.sum(), leaves)
    num_fast = 3 * len(fast_weights)
    directions = [newton_schulz(gradient) for gradient in gradients[:num_fast]]
    directions += [newton_schulz(gradient.flatten(2)) for gradient in gradients[num_fast:]]

    def stepped() -> Tensor:
        """The outer loss after a step of the present parameters in the constant directions, written out."""
        moved_layers, moved_filters = model.initial_fast_weights(), {}
        constant = iter(directions)
        for index, layer in enumerate(model.initial_fast_weights()):
            size = 0.05 * model.fast_weight_log_step_scales[index].exp()
            matrices = []
            for old in layer:
                new = old - size * next(constant)
                matrices.append(new * old.norm(dim=-2, keepdim=True) / new.norm(dim=-2, keepdim=True))
            moved_layers[index] = FastWeights(*matrices)
        for index, (name, old) in enumerate(model.initial_front_end().items()):
            direction = next(constant)
            length = direction.norm(dim=(1, 2), keepdim=True)
            share = 0.03 * model.front_end_log_step_scales[index].exp()
            moved_filters[name] = old - (share * old.norm() / length * direction).view(2, *old.shape)
        with (
            model.using_fast_weights(moved_layers if parameters != "front_end" else None),
            model.using_front_end(moved_filters if parameters != "fast_weights" else None),
        ):
            return smooth(model(*batch).logits)

    def loss() -> Tensor:
        return outer_loss(model, batch, options, exact=False)

    assert loss().item() == pytest.approx(stepped().item(), rel=1e-9)
    check_slopes(model, (*STACK, *FRONT_END, *SCALES[parameters]), loss, stepped)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("parameters", TTT_PARAMETERS)
def test_the_steps_are_those_of_inference(
    model: HybridASRForCTC, batch: tuple[Tensor, Tensor], parameters: str, exact: bool
) -> None:
    options = TTTOptions(loss_type="entropy_mcc", parameters=parameters, steps=2, learning_rate=0.05)
    with adapted_for_training(model, *batch, options, exact=exact):
        logits = model(*batch).logits
    torch.testing.assert_close(logits, adapt(model, *batch, options).logits, rtol=0, atol=1e-9)
    assert all(module.training for module in model.modules())


def test_step_sizes_are_learned_only_where_training_goes_through_them(
    model: HybridASRForCTC, batch: tuple[Tensor, Tensor]
) -> None:
    options = TTTOptions(loss_type="entropy_mcc", parameters="front_end", conv_layers="0,2")
    outer_loss(model, batch, options, exact=False).backward()
    assert model.fast_weight_log_step_scales.grad is None
    moved = model.front_end_log_step_scales.grad != 0
    assert moved.nonzero().flatten().tolist() == [0, 2]


@pytest.mark.parametrize("parameters", TTT_PARAMETERS)
def test_recomputing_the_blocks_saves_memory_and_changes_no_gradient(
    model: HybridASRForCTC, batch: tuple[Tensor, Tensor], parameters: str
) -> None:
    options = TTTOptions(loss_type="entropy_mcc", parameters=parameters, steps=2, learning_rate=0.05)
    saved, gradients = [], []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        held: dict[int, int] = {}

        def count(tensor: Tensor, held: dict[int, int] = held) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        model.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = outer_loss(model, batch, options, exact=True)
        saved.append(sum(held.values()))
        loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert saved[1] < 0.7 * saved[0]
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-6, atol=1e-9, msg=name)


def test_a_batch_without_frames_trains_plainly(model: HybridASRForCTC) -> None:
    speech = torch.randn(2, 100, dtype=torch.float64), None
    with adapted_for_training(model, *speech, TTTOptions(parameters="both"), exact=True):
        assert model(*speech).logits.shape[1] == 0
