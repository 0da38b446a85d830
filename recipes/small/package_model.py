"""Turn a trained checkpoint into the model folder that the package ships, with its card.

    python recipes/small/package_model.py CHECKPOINT TRAINING_LOG_DIR... --output_dir FOLDER

What the card says of the trainings is read from the `results.json` that `lact-asr train` wrote. Its error rates are
those of the folder, so `benchmarks/tables.py` writes them into it afterwards.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from lact_asr_model.adaptation.options import options_from_config
from lact_asr_model.checkpoint_io import load_checkpoint, save_pretrained_folder
from lact_asr_model.hybrid_network import count_parameters

CARD = Path(__file__).with_name("model_card.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("trainings", type=Path, nargs="+", help="output folders of the trainings, in their order")
    parser.add_argument("--output_dir", type=Path, required=True)
    arguments = parser.parse_args()

    model, processor = load_checkpoint(arguments.checkpoint)
    config = model.config
    card = CARD.read_text().format(
        parameters=count_parameters(model)["total"] / 1e6,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        frame_ms=1000 * config.frame_seconds,
        ttt=", ".join(f"{name} {value}" for name, value in asdict(options_from_config(config)).items()),
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
