"""Does a self-supervised gradient point where the CTC gradient points? Per layer, on speech with transcripts.

    python studies/gradient_alignment.py --data_dir DATA_DIR --subset dev-mini --conditions clean,gaussian:0.01

For every utterance, the cosine between Muon's direction for a self-supervised loss (its orthogonalised gradient, which
is what adaptation follows) and the gradient of the CTC loss. Above 0, a small step lowers the CTC loss. Printed: the
mean over utterances with its standard error, for the conv filters and the fast weights (w0, w1, w2 together) of each
layer. Nothing is adapted.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch
from corrupted_set import make_parser, read_tasks
from torch import Tensor
from tqdm.auto import tqdm

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.options import SELF_SUPERVISED
from lact_asr_model.adaptation.procedure import losses_to_lower
from lact_asr_model.checkpoint_io import load_checkpoint
from lact_asr_model.data.utterance import load_samples
from lact_asr_model.evaluation.comparison import corrupt
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.newton_schulz import newton_schulz


def layer_parameters(model: HybridASRForCTC) -> dict[str, list[Tensor]]:
    """What adaptation can move, by layer."""
    conv = {f"conv {index}": list(of_layer.values()) for index, of_layer in enumerate(model.front_end_weights())}
    return conv | {f"block {index}": list(of_layer.values()) for index, of_layer in enumerate(model.fast_weights())}


def gradients(loss: Tensor, layers: dict[str, list[Tensor]]) -> dict[str, list[Tensor]]:
    """Of the loss, by layer; each as a matrix or a batch of matrices, one for each head."""
    parameters = [parameter for of_layer in layers.values() for parameter in of_layer]
    found = iter(torch.autograd.grad(loss, parameters, retain_graph=True))
    return {
        name: [next(found).flatten(1) if name.startswith("conv") else next(found) for _ in of_layer]
        for name, of_layer in layers.items()
    }


def cosine(directions: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    one, other = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (directions, others))
    return torch.nn.functional.cosine_similarity(one, other, dim=0).item()


def main() -> None:
    arguments = make_parser(__doc__).parse_args()
    model, processor = load_checkpoint(arguments.checkpoint)
    acoustic_model = HybridAcousticModel(model, processor)
    layers = layer_parameters(model)
    tasks = read_tasks(arguments)

    cosines: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for task in tasks:
        for utterance in tqdm(task.utterances, desc=task.name, disable=None):
            samples = corrupt(load_samples(utterance), task.condition, utterance.id, seed=0)
            inputs = acoustic_model.prepare([samples])
            labels = torch.tensor([processor.tokenizer(utterance.text).input_ids])
            ctc = gradients(model(**inputs, labels=labels).loss, layers)
            speech = acoustic_model.listen(inputs, (), acoustic_model.default_options)
            for loss_type in SELF_SUPERVISED:
                options = replace(acoustic_model.default_options, loss_type=loss_type)
                losses = losses_to_lower(acoustic_model, speech, {}, options)
                for layer, of_layer in gradients(losses.sum(), layers).items():
                    directions = [newton_schulz(gradient, model.config.newton_schulz_schedule) for gradient in of_layer]
                    cosines[task.name, layer, loss_type].append(cosine(directions, ctc[layer]))

    print(f"{len(tasks[0].utterances)} utterances; mean cosine with the CTC gradient (standard error)\n")
    print("| condition | layer | " + " | ".join(SELF_SUPERVISED) + " |")
    print("|---|---|" + "---|" * len(SELF_SUPERVISED))
    for task in tasks:
        for layer in layers:
            cells = []
            for loss_type in SELF_SUPERVISED:
                values = torch.tensor(cosines[task.name, layer, loss_type])
                cells.append(f"{values.mean():+.3f} ({values.std() / len(values) ** 0.5:.3f})")
            print(f"| {task.name} | {layer} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
