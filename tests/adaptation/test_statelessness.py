"""One model for all: adaptations in several threads at once, and those that fail half-way, leave no trace in it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.peers import PEERS, adapt_with_peer
from lact_asr_model.adaptation.procedure import Adaptation, adapt

CASES = [
    *(("tiny", {"parameters": "both", "learning_rate": 0.05}), ("tiny", {"parameters": "norms"})),
    *(("tiny", {"parameters": "front_end", "loss_type": "masked_prediction"}),),
    *(("with_exit", {"parameters": "front_end", "exit_layer": 2, "unadapted_share": 0.5}),),
    *(("foreign", {"parameters": "norms", "unadapted_share": 0.5}), ("foreign", {"parameters": "front_end"})),
    *(("foreign", {"parameters": "attention", "max_seconds": 0.3}),),
]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[AcousticModel, AdaptationOptions]:
    name, changes = request.param
    options = AdaptationOptions(**{"loss_type": "entropy", "steps": 2, "front_end_step": 0.05} | changes)
    return request.getfixturevalue(name), options


def utterance(num_samples: int, seed: int) -> dict[str, Tensor]:
    return {"input_values": torch.randn(1, num_samples, generator=torch.Generator().manual_seed(seed))}


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Bitwise the same tensors, gradients, modes and requires_grad afterwards."""

    def state() -> list[object]:
        tensors = [(name, each.detach().numpy().tobytes()) for name, each in module.state_dict().items()]
        flags = [(each.requires_grad, each.grad is None) for each in module.parameters()]
        return [tensors, flags, [(type(each), each.training) for each in module.modules()]]

    before = state()
    yield
    assert state() == before


def same(one: Adaptation, other: Adaptation) -> bool:
    return (
        torch.equal(one.logits, other.logits)
        and torch.equal(one.losses, other.losses)
        and all(torch.equal(weight, other.weights[name]) for name, weight in one.weights.items())
    )


def head_of_steps(model: AcousticModel, options: AdaptationOptions) -> nn.Module:
    """The module that every pass before a step ends with."""
    if options.loss_type == "masked_prediction":
        return model.model.masked_prediction_head
    return model.model.intermediate_heads["2"].output if options.exit_layer else model.model.lm_head


def in_step(module: nn.Module, num_threads: int) -> None:
    """From now on, each thread waits behind every pass until all are there: their steps interleave."""
    barrier = threading.Barrier(num_threads)

    def wait(*_: object) -> None:
        barrier.wait(timeout=20)

    module.register_forward_hook(wait)


def in_threads(num_threads: int, task: Callable[[int], Adaptation]) -> list[Adaptation]:
    with ThreadPoolExecutor(num_threads) as threads:
        return list(threads.map(task, range(num_threads)))


def test_adaptations_in_two_threads_give_what_each_gives_alone(case: tuple[AcousticModel, AdaptationOptions]) -> None:
    model, options = case
    utterances = [utterance(8000, seed=1), utterance(11000, seed=2)]
    alone = [adapt(model, inputs, options) for inputs in utterances]
    assert all(adaptation.is_adapted.all() for adaptation in alone)
    in_step(head_of_steps(model, options), 2)
    with untouched(model.model):
        together = in_threads(2, lambda index: adapt(model, utterances[index], options))
    assert all(same(one, other) for one, other in zip(together, alone, strict=True))


@pytest.mark.parametrize("name", ["tiny", "foreign"])
def test_a_plain_recognition_beside_an_adaptation_is_plain(name: str, request: pytest.FixtureRequest) -> None:
    model: AcousticModel = request.getfixturevalue(name)
    inputs = utterance(8000, seed=1)
    options = AdaptationOptions(loss_type="entropy", parameters="norms", steps=1, front_end_step=0.5)
    plain, _ = model.recognize(inputs)
    in_step(model.model.lm_head, 2)  # an adaptation of one step has two passes, as has the other thread

    def task(index: int) -> list[Tensor]:
        if index == 0:
            return [adapt(model, inputs, options).logits]
        return [model.recognize(inputs)[0] for _ in range(2)]

    with ThreadPoolExecutor(2) as threads:
        (adapted,), recognized = threads.map(task, range(2))
    assert all(torch.equal(logits, plain) for logits in recognized)
    assert (adapted - plain).abs().max() > 0.1


@pytest.mark.parametrize("name", ["tiny", "foreign"])
def test_peers_in_two_threads_give_what_each_gives_alone(name: str, request: pytest.FixtureRequest) -> None:
    model: AcousticModel = request.getfixturevalue(name)
    utterances = [utterance(8000, seed=1), utterance(11000, seed=2)]
    suta = replace(PEERS["suta"], steps=2, learning_rate=1e-3)
    alone = [adapt_with_peer(model, inputs, suta) for inputs in utterances]
    in_step(model.model.lm_head, 2)
    with untouched(model.model):
        together = in_threads(2, lambda index: adapt_with_peer(model, utterances[index], suta))
    assert all(same(one, other) for one, other in zip(together, alone, strict=True))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("is_backward", [False, True])
def test_an_exception_in_the_middle_of_a_step_leaves_the_model_as_it_was(
    case: tuple[AcousticModel, AdaptationOptions], error: type[BaseException], is_backward: bool
) -> None:
    model, options = case
    inputs = utterance(8000, seed=1)
    expected = adapt(model, inputs, options)
    assert expected.is_adapted.all()
    calls = 0
    is_armed = True

    def fail_the_second_time(*_: object) -> None:
        nonlocal calls
        calls += is_armed
        if is_armed and calls == 2:
            raise error

    def watch(output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(fail_the_second_time)

    head = head_of_steps(model, options)
    if is_backward:
        head.register_forward_hook(lambda module, arguments, output: watch(output))
    else:
        head.register_forward_hook(fail_the_second_time)
    with untouched(model.model), pytest.raises(error):
        adapt(model, inputs, options)
    assert calls == 2
    is_armed = False
    assert same(adapt(model, inputs, options), expected)


def test_one_model_serves_where_gradients_are_on_off_and_unheard_of(
    case: tuple[AcousticModel, AdaptationOptions],
) -> None:
    model, options = case
    inputs = utterance(8000, seed=1)
    expected = adapt(model, inputs, options)
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with untouched(model.model), mode():
            assert same(adapt(model, {name: values.clone() for name, values in inputs.items()}, options), expected)
