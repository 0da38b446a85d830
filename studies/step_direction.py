"""Is it Muon's direction that helps, or only the size of the step? Directions for the step on the conv filters.

    python studies/step_direction.py --data_dir DATA_DIR --subset dev-mini --max_utterances 14 \\
        --conditions clean,gaussian:0.005,noise:5,telephone --noise_dir NOISE_DIR

Every direction takes two steps of the same sizes, a share of each layer's filter norm; only what is followed differs:
the orthogonalised gradient (muon), the gradient itself (gradient), its singular values' square roots (halfway between
them), or the sign of each element (sign, what Adam's first step follows). Printed: word and character error rates.
"""

from collections.abc import Callable
from unittest.mock import patch

import torch
from corrupted_set import make_parser, read_tasks
from torch import Tensor

from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.data.utterance import load_samples
from lact_asr_model.evaluation.comparison import corrupt
from lact_asr_model.metrics import ErrorCounts, character_errors, word_errors
from lact_asr_model.ops.newton_schulz import newton_schulz
from lact_asr_model.recognition.transcriber import Transcriber

SHARES = (0.003, 0.01, 0.03)


def halfway(gradients: Tensor) -> Tensor:
    left, values, right = torch.linalg.svd(gradients, full_matrices=False)
    return left @ torch.diag_embed(values.sqrt()) @ right


DIRECTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "muon": newton_schulz,
    "halfway": halfway,
    "gradient": torch.clone,
    "sign": torch.sign,
}


def step_along(direction: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, float | Tensor, str], Tensor]:
    """As `relative_muon_step`, along another direction."""

    def step(matrices: Tensor, gradients: Tensor, share: float | Tensor, schedule: str) -> Tensor:
        followed = direction(gradients)
        length = torch.linalg.matrix_norm(followed, keepdim=True).clamp(min=1e-12)
        return matrices - share * torch.linalg.matrix_norm(matrices, keepdim=True) / length * followed

    return step


def main() -> None:
    arguments = make_parser(__doc__).parse_args()
    model = load(arguments.checkpoint)
    tasks = read_tasks(arguments)
    recordings = {
        task.name: [corrupt(load_samples(each), task.condition, each.id, seed=0) for each in task.utterances]
        for task in tasks
    }
    references = [utterance.text or "" for utterance in tasks[0].utterances]

    def rates(transcriber: Transcriber) -> str:
        cells = []
        for samples in recordings.values():
            texts = [transcript.text for transcript in transcriber.transcribe_samples(samples)]
            pairs = list(zip(references, texts, strict=True))
            words, characters = (
                sum((count(*pair) for pair in pairs), ErrorCounts()) for count in (word_errors, character_errors)
            )
            cells.append(f"{100 * words.rate:.1f} / {100 * characters.rate:.1f}")
        return " | ".join(cells)

    print(f"{len(references)} utterances; WER / CER in %\n")
    print(f"| direction | share | {' | '.join(recordings)} |")
    print("|---|---|" + "---|" * len(recordings))
    print(f"| none |  | {rates(Transcriber(model))} |", flush=True)
    for name, direction in DIRECTIONS.items():
        for share in SHARES:
            options = AdaptationOptions(loss_type="entropy_mcc", parameters="front_end", steps=2, front_end_step=share)
            with patch("lact_asr_model.adaptation.steps.relative_muon_step", step_along(direction)):
                found = rates(Transcriber(model, ttt_options=options))
            print(f"| {name} | {100 * share:g} % | {found} |", flush=True)


if __name__ == "__main__":
    main()
