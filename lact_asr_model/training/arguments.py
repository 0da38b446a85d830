"""The options of a training run: a dataclass whose fields are also the command line's flags."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lact_asr_model.data.sources import SOURCE_HELP
from lact_asr_model.errors import UserError
from lact_asr_model.training.schedules import SCHEDULES
from lact_asr_model.training.tracking import TRACKERS

OPTIMIZERS = ("adamw", "muon")
TTT_GRADIENTS = ("first_order", "exact")
_LARGEST_SEED = 2**32 - 2**16  # numpy takes less than 2^32, and each process adds its number


def _flag(
    kind: Callable[[str], Any],
    help: str,
    *,
    choices: Sequence[str] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> dict[str, Any]:
    """What the command line and the validation need to know about a field."""
    limits = {"at_least": at_least, "above": above, "below": below, "at_most": at_most}
    return {"kind": kind, "help": help, "choices": choices, **limits}


@dataclass
class TrainingArguments:
    """Every option of `train`; each is a flag of the same name, and `--help` says what it does.

    Raises:
        UserError: a value that no training can run with.
    """

    config_path: Path | None = field(
        default=None, metadata=_flag(Path, "model configuration, a JSON file; none: the full-size model")
    )
    data_dir: Path | None = field(default=None, metadata=_flag(Path, "folder of what the subsets name"))
    train_subset: str = field(
        default="train-clean-360",
        metadata=_flag(str, SOURCE_HELP),
    )
    val_subset: str = field(
        default="dev-clean", metadata=_flag(str, "what the best model is chosen on, given like --train_subset")
    )
    test_subset: str | None = field(
        default=None, metadata=_flag(str, "recognised by the best model when training is over")
    )
    output_dir: Path = field(
        default=Path("checkpoints/hybrid"),
        metadata=_flag(
            Path,
            "gets best_model.pt, best_model/ (a Hugging Face folder), training_state.pt, training_progress.json, "
            "results.json, tensorboard/, and lists of what was left out",
        ),
    )
    resume: bool = field(
        default=False,
        metadata=_flag(
            bool, "go on from the training state in --output_dir; without one there, start from the beginning"
        ),
    )
    init_from: Path | None = field(
        default=None,
        metadata=_flag(
            Path, "checkpoint to fine-tune: its vocabulary, weights and (without --config_path) configuration"
        ),
    )
    pretrained_encoder: str | None = field(
        default=None,
        metadata=_flag(
            str,
            "wav2vec2, HuBERT or data2vec-audio checkpoint for the conv encoder, 'none' for random filters; "
            "not given: the configuration's wav2vec2_model_name",
        ),
    )

    batch_size: int = field(default=8, metadata=_flag(int, "utterances in a batch of one process", at_least=1))
    batch_seconds: float | None = field(
        default=None, metadata=_flag(float, "size batches by padded seconds of audio instead of --batch_size", above=0)
    )
    gradient_accumulation_steps: int = field(
        default=2, metadata=_flag(int, "batches in one optimiser step", at_least=1)
    )
    max_audio_samples: int = field(
        default=250_000,
        metadata=_flag(
            int, "longer training utterances are left out; cropping would leave text without audio", at_least=1
        ),
    )
    max_epochs: int = field(
        default=25, metadata=_flag(int, "passes over the training data, unless --max_steps says otherwise", at_least=1)
    )
    max_steps: int | None = field(default=None, metadata=_flag(int, "optimiser steps to train for", at_least=1))
    max_minutes: float | None = field(
        default=None, metadata=_flag(float, "stop cleanly after this time; --resume goes on from there", above=0)
    )

    optimizer: str = field(
        default="adamw",
        metadata=_flag(str, "muon: Muon for the hidden matrices, AdamW for everything else", choices=OPTIMIZERS),
    )
    peak_lr: float = field(default=5e-4, metadata=_flag(float, "learning rate at the end of warm-up", above=0))
    warmup_steps: int = field(
        default=10_000, metadata=_flag(int, "optimiser steps from 10 %% to 100 %% of the peak", at_least=0)
    )
    lr_schedule: str = field(
        default="cosine",
        metadata=_flag(
            str,
            "how the learning rate falls to 1 %% of the peak; stable: in the last fifth of the steps only, so that "
            "--max_steps may be changed on --resume",
            choices=SCHEDULES,
        ),
    )
    encoder_lr_scale: float | None = field(
        default=None,
        metadata=_flag(
            float,
            "learning rate of the conv encoder over that of the rest; 0: it stays as it is, which saves time; not "
            "given: the configuration's",
            at_least=0,
        ),
    )
    weight_decay: float = field(
        default=0.01, metadata=_flag(float, "decoupled weight decay of matrices and filters", at_least=0)
    )
    max_grad_norm: float = field(
        default=1.0, metadata=_flag(float, "clip the gradient to this norm; 0: never", at_least=0)
    )
    ema_decay: float = field(
        default=0.0,
        metadata=_flag(
            float, "validate and keep an exponential moving average of the weights; 0: off", at_least=0, below=1
        ),
    )
    mixed_precision: bool = field(
        default=False,
        metadata=_flag(bool, "bfloat16 on devices that have it, float16 on other GPUs; ignored on other CPUs"),
    )
    gradient_checkpointing: bool = field(
        default=False,
        metadata=_flag(bool, "recompute activations in the backward pass even where memory does not ask for it"),
    )
    max_memory_gb: float | None = field(
        default=None,
        metadata=_flag(
            float,
            "gigabytes that a training process may take on its device: a batch is computed in pieces that fit, which "
            "changes no gradient; not given: what is free",
            above=0,
        ),
    )
    enable_ttt: bool = field(
        default=False,
        metadata=_flag(
            bool,
            "train through adaptation: the batch is first adapted to, as at inference and with the configuration's "
            "ttt_... options, and the loss is that of the adapted model; each layer's step size is learned, and "
            "adaptation becomes the checkpoint's default",
        ),
    )
    ttt_gradient: str = field(
        default="first_order",
        metadata=_flag(
            str,
            "with --enable_ttt: first_order takes the direction of an adaptation step as constant, exact "
            "differentiates it too, at about twice the time and memory",
            choices=TTT_GRADIENTS,
        ),
    )
    ttt_share: float = field(
        default=1.0,
        metadata=_flag(
            float,
            "with --enable_ttt: share of the batches that are adapted to; the others are plain",
            above=0,
            at_most=1,
        ),
    )

    join_share: float = field(
        default=0.0,
        metadata=_flag(
            float,
            "share of the audio heard as long recordings, neighbouring utterances of one speaker joined with short "
            "pauses, drawn anew each epoch",
            at_least=0,
            at_most=1,
        ),
    )
    join_seconds: float = field(
        default=60.0, metadata=_flag(float, "the longest such recording; the shortest is half as long", above=0)
    )
    augment: bool = field(
        default=False,
        metadata=_flag(bool, "random speed, vocal tract, room, noise, microphone and gain on the training audio"),
    )
    noise_dir: Path | None = field(default=None, metadata=_flag(Path, "recorded noises for --augment"))
    impulse_response_dir: Path | None = field(
        default=None, metadata=_flag(Path, "room impulse responses for --augment")
    )
    normalize: bool = field(
        default=False,
        metadata=_flag(bool, "spell numbers and common symbols of the transcripts out, in English (normalize extra)"),
    )
    max_bad_share: float = field(
        default=0.05,
        metadata=_flag(
            float,
            "leave out recordings that are missing, damaged or without a transcript up to this share of a data set; "
            "beyond it, training does not begin",
            at_least=0,
            at_most=1,
        ),
    )
    num_workers: int = field(
        default=2, metadata=_flag(int, "processes of each training process that load audio", at_least=0)
    )

    eval_every: int | None = field(
        default=None,
        metadata=_flag(
            int,
            "optimiser steps between validations, before each of which the state is saved; not given: one epoch",
            at_least=1,
        ),
    )
    save_minutes: float = field(
        default=15.0, metadata=_flag(float, "minutes between two saved states, beside those of validations", above=0)
    )
    early_stop_patience: int | None = field(
        default=None,
        metadata=_flag(int, "stop after this many validations without a better word error rate", at_least=1),
    )
    log_every: int = field(default=50, metadata=_flag(int, "optimiser steps between console lines", at_least=1))
    tracker: str = field(
        default=TRACKERS[0],
        metadata=_flag(str, "what keeps the log of losses, rates, norms and transcripts", choices=TRACKERS),
    )
    seed: int = field(
        default=0,
        metadata=_flag(int, "seed of weights, data order, dropout and augmentation", at_least=0, at_most=_LARGEST_SEED),
    )

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            value = getattr(self, option.name)
            if value is not None:
                _check(option, value)
        for name in ("noise_dir", "impulse_response_dir"):
            if getattr(self, name) is not None and not self.augment:
                raise UserError(f"--{name}: is only used by augmentation; add --augment")


def parse_arguments(argv: Sequence[str] | None = None) -> TrainingArguments:
    """Read `TrainingArguments` from a command line (None: the process's own)."""
    parser = argparse.ArgumentParser(
        description="Train the recogniser on transcribed speech. On several GPUs or processes, start it with "
        "`torchrun --nproc_per_node N`; batch sizes are those of one process.",
        allow_abbrev=False,
    )
    for option in dataclasses.fields(TrainingArguments):
        flag, kind, help = f"--{option.name}", option.metadata["kind"], option.metadata["help"]
        if kind is bool:
            parser.add_argument(flag, action="store_true", help=help)
        else:
            shown = help if option.default is None else f"{help} (default: {option.default})"
            choices = option.metadata["choices"]
            parser.add_argument(flag, type=kind, default=option.default, choices=choices, help=shown)
    return TrainingArguments(**vars(parser.parse_args(argv)))


def _check(option: dataclasses.Field, value: Any) -> None:
    metadata, flag = option.metadata, f"--{option.name} {value}"
    if metadata["choices"] is not None and value not in metadata["choices"]:
        raise UserError(f"{flag}: unknown; choose one of {', '.join(metadata['choices'])}")
    if metadata["at_least"] is not None and not value >= metadata["at_least"]:
        raise UserError(f"{flag}: too small; give {metadata['at_least']} or more")
    if metadata["above"] is not None and not value > metadata["above"]:
        raise UserError(f"{flag}: too small; give a number above {metadata['above']}")
    if metadata["below"] is not None and not value < metadata["below"]:
        raise UserError(f"{flag}: too large; give a number below {metadata['below']}")
    if metadata["at_most"] is not None and not value <= metadata["at_most"]:
        raise UserError(f"{flag}: too large; give {metadata['at_most']} or less")
