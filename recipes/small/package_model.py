"""Turn a trained checkpoint and its evaluations into the model folder that the package ships, with its card.

    python recipes/small/package_model.py CHECKPOINT TRAINING_LOG_DIR... --results RESULTS_DIR... --output_dir FOLDER

Every figure of the card is read from the `results.json` files that `lact-asr train` and `lact-asr evaluate` wrote.
"""

import argparse
import json
from pathlib import Path

from lact_asr_model.checkpoint_io import load_checkpoint, save_pretrained_folder
from lact_asr_model.evaluation.summary import format_table
from lact_asr_model.modeling_hybrid_asr import count_parameters

CARD = Path(__file__).with_name("model_card.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("trainings", type=Path, nargs="+", help="output folders of the trainings, in their order")
    parser.add_argument("--results", type=Path, nargs="+", required=True, help="output folders of `lact-asr evaluate`")
    parser.add_argument("--output_dir", type=Path, required=True)
    arguments = parser.parse_args()

    model, processor = load_checkpoint(arguments.checkpoint)
    config = model.config
    evaluations = [json.loads((folder / "results.json").read_text()) for folder in arguments.results]
    card = CARD.read_text().format(
        parameters=count_parameters(model)["total"] / 1e6,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        frame_ms=1000 * config.frame_seconds,
        ttt=", ".join(f"{name} {value}" for name, value in evaluations[0]["ttt"].items()),
        commit=evaluations[0]["commit"],
        hardware=evaluations[0]["hardware"],
        tables="\n\n".join(f"`{each['subset']}`:\n\n{format_table(each['results'])}" for each in evaluations),
        training="\n".join(_training_row(folder) for folder in arguments.trainings),
    )
    save_pretrained_folder(arguments.output_dir, model, processor, model_card=card, max_shard_size="15MB", compact=True)


def _training_row(folder: Path) -> str:
    results = json.loads((folder / "results.json").read_text())
    options = results["arguments"]
    step, batch_seconds = results["validation"]["step"], results["num_processes"] * options["batch_seconds"]
    augmented = "yes" if options["augment"] else "no"
    through = ", through the adaptation" if options["enable_ttt"] else ""
    return f"| {folder.name}: CTC and masked prediction{through} | {step} | {batch_seconds:g} s | {augmented} |"


if __name__ == "__main__":
    main()
