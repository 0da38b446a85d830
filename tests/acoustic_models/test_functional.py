"""A frozen copy shares every tensor and nothing else; one utterance is heard with other weights."""

import pytest
import torch
from torch import nn
from transformers import Wav2Vec2ForCTC

from lact_asr_model.acoustic_models.functional import FunctionalSpeech, frozen_copy
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC


@pytest.fixture(params=["tiny_model", "wav2vec2"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return request.getfixturevalue(request.param)


def storages(module: nn.Module) -> dict[str, int]:
    return {name: tensor.untyped_storage().data_ptr() for name, tensor in module.state_dict().items()}


class TestFrozenCopy:
    def test_it_shares_every_tensor_and_takes_no_memory_of_its_own(self, model: nn.Module) -> None:
        copy = frozen_copy(model)
        assert copy is not model
        assert type(copy) is type(model)
        assert storages(copy) == storages(model)
        assert all(copy.get_buffer(name) is buffer for name, buffer in model.named_buffers())
        assert copy.config is model.config

    def test_what_happens_to_a_weight_happens_to_both(self, model: nn.Module) -> None:
        copy = frozen_copy(model)
        with torch.no_grad():
            model.lm_head.bias.fill_(7)
        assert (copy.lm_head.bias == 7).all()

    def test_modes_and_gradients_are_its_own(self, model: nn.Module) -> None:
        model.train()
        model.lm_head.eval()
        model.lm_head.bias.requires_grad_(False)
        modes = [module.training for module in model.modules()]
        are_learned = [parameter.requires_grad for parameter in model.parameters()]
        copy = frozen_copy(model)
        assert not any(module.training for module in copy.modules())
        assert not any(parameter.requires_grad for parameter in copy.parameters())
        assert [module.training for module in model.modules()] == modes
        assert [parameter.requires_grad for parameter in model.parameters()] == are_learned
        assert not {id(module) for module in copy.modules()} & {id(module) for module in model.modules()}
        copy.train()
        assert [module.training for module in model.modules()] == modes

    def test_its_modules_can_be_replaced(self, model: nn.Module) -> None:
        audio = torch.randn(1, 4000)
        with torch.no_grad():
            before = model(audio).logits
            copy = frozen_copy(model)
            copy.lm_head = nn.Identity()
            copy.register_forward_hook(lambda *_: None)
            assert copy(audio).logits.shape != before.shape
            assert torch.equal(model(audio).logits, before)
        assert not model._forward_hooks

    def test_it_answers_as_the_original_does_while_that_is_trained(self, model: nn.Module) -> None:
        audio = torch.randn(1, 4000)
        copy = frozen_copy(model)
        with torch.no_grad():
            before = copy(audio).logits
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model.train()(audio).logits.square().mean().backward()
        optimizer.step()
        assert all(parameter.grad is None for parameter in copy.parameters())
        with torch.no_grad():
            after = copy(audio).logits
            assert torch.equal(after, model.eval()(audio).logits)
        assert not torch.equal(after, before)

    def test_tied_weights_stay_tied(self) -> None:
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        copy = frozen_copy(model)
        assert copy[1].weight is copy[0].weight
        assert copy[1].bias is not copy[0].bias


class TestFunctionalSpeech:
    def test_weights_that_are_not_given_are_the_models_own(self, wav2vec2: Wav2Vec2ForCTC) -> None:
        inputs = {"input_values": torch.randn(1, 4000)}
        name = "wav2vec2.encoder.layer_norm.weight"
        other = 2 * wav2vec2.get_parameter(name).detach()[None]
        speech = FunctionalSpeech(frozen_copy(wav2vec2), inputs, inputs, 12, [name])
        with torch.no_grad():
            plain = wav2vec2(**inputs).logits
            changed = speech.hear({name: other}).logits
            assert torch.equal(speech.hear({}).logits, plain)
            assert torch.equal(speech.hear({name: other / 2}).logits, plain)
            wav2vec2.get_parameter(name).mul_(2)
            assert torch.equal(wav2vec2(**inputs).logits, changed)
        assert (changed - plain).abs().max() > 1e-2

    def test_gradients_reach_what_is_given_and_not_the_model(self, wav2vec2: Wav2Vec2ForCTC) -> None:
        inputs = {"input_values": torch.randn(1, 4000)}
        name = "wav2vec2.encoder.layers.1.attention.q_proj.weight"
        own = wav2vec2.get_parameter(name).detach()[None].clone().requires_grad_()
        FunctionalSpeech(wav2vec2, inputs, inputs, 12, [name]).hear({name: own}).logits.square().mean().backward()
        assert own.grad is not None and own.grad.abs().max() > 0
        assert wav2vec2.get_parameter(name).grad is None

    def test_a_batch_is_refused(self, tiny_model: HybridASRForCTC) -> None:
        inputs = {"input_values": torch.randn(2, 4000)}
        with pytest.raises(UserError, match="one utterance at a time; use a batch size of 1"):
            FunctionalSpeech(tiny_model, inputs, inputs, 12, [])
