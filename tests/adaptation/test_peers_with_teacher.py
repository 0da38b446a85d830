"""The published methods that ask a language model."""

import pytest
import torch
from torch import Tensor

from lact_asr_model.acoustic_models.hugging_face import HuggingFaceAcousticModel
from lact_asr_model.adaptation.lessons import Lesson, taught_loss
from lact_asr_model.adaptation.losses import entropy_mcc_loss
from lact_asr_model.adaptation.peers import PEERS, Peer, adapt_with_peer
from lact_asr_model.errors import UserError


class Scripted:
    """Teaches one lesson, and finds what it hears as plausible as the script says."""

    def __init__(self, *plausibilities: float) -> None:
        self.plausibilities = list(plausibilities)
        self.heard: list[Tensor] = []

    def __call__(self, logits: Tensor, frame_mask: Tensor) -> list[Lesson]:
        self.heard.append(logits)
        return [Lesson([5, 6], 1.0)]

    def plausibility(self, logits: Tensor, frame_mask: Tensor) -> float:
        self.heard.append(logits)
        return self.plausibilities.pop(0)


@pytest.fixture
def inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"input_values": batch["input_values"][:1]}


def peer(name: str, steps: int) -> Peer:
    published = PEERS[name]
    return Peer(
        published.loss_type,
        2.5,
        "suta",
        steps,
        1e-2,
        is_taught=published.is_taught,
        stops_by_text=published.stops_by_text,
    )


@pytest.mark.parametrize(("plausibilities", "best"), [((-3, -1, -2), 1), ((-1, -1, -2), 0), ((-3, -2, -1), 2)])
def test_suta_lm_answers_from_the_step_with_the_most_plausible_text(
    foreign: HuggingFaceAcousticModel, inputs: dict[str, Tensor], plausibilities: tuple[float, ...], best: int
) -> None:
    adaptation = adapt_with_peer(foreign, inputs, peer("suta_lm", 2), Scripted(*plausibilities))
    plain = foreign.recognize(inputs)[0]
    expected = adapt_with_peer(foreign, inputs, peer("suta", best)).logits if best else plain
    torch.testing.assert_close(adaptation.logits, expected, rtol=0, atol=1e-5)
    assert adaptation.is_adapted.item() == (best > 0)


def test_li_tta_adds_the_loss_of_the_lesson(foreign: HuggingFaceAcousticModel, inputs: dict[str, Tensor]) -> None:
    teacher = Scripted()
    adaptation = adapt_with_peer(foreign, inputs, peer("li_tta", 2), teacher)
    plain, frame_mask = foreign.recognize(inputs)
    (heard,) = teacher.heard
    torch.testing.assert_close(heard, plain, rtol=0, atol=1e-5)
    taught = taught_loss(plain, frame_mask, [Lesson([5, 6], 1.0)])
    torch.testing.assert_close(adaptation.losses[0], taught + entropy_mcc_loss(plain, frame_mask, 2.5))
    assert adaptation.losses[1] < adaptation.losses[0]


@pytest.mark.parametrize("name", ["suta_lm", "li_tta"])
def test_without_a_teacher_it_is_one_line(
    foreign: HuggingFaceAcousticModel, inputs: dict[str, Tensor], name: str
) -> None:
    with pytest.raises(UserError, match="beam size of 50"):
        adapt_with_peer(foreign, inputs, PEERS[name])
