import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest

from lact_asr_model.errors import UserError
from lact_asr_model.training.arguments import TrainingArguments, parse_arguments

SPECIFIED_COMMAND = """
    --config_path configs/hybrid_asr_config.json --data_dir /path/to/librispeech --train_subset train-clean-360
    --val_subset dev-clean --test_subset test-clean --output_dir ./checkpoints/hybrid --batch_size 8 --max_epochs 25
    --peak_lr 5e-4 --warmup_steps 10000 --encoder_lr_scale 0.1 --gradient_accumulation_steps 2 --mixed_precision
    --enable_ttt
"""


def test_the_documented_command_is_understood_and_its_numbers_are_the_defaults() -> None:
    arguments = parse_arguments(shlex.split(SPECIFIED_COMMAND))
    given = {"config_path", "data_dir", "test_subset", "encoder_lr_scale", "mixed_precision", "enable_ttt"}
    assert arguments.config_path == Path("configs/hybrid_asr_config.json")
    assert arguments.test_subset == "test-clean"
    assert arguments.encoder_lr_scale == 0.1
    assert arguments.mixed_precision
    assert arguments.enable_ttt
    defaults = vars(TrainingArguments())
    assert {name for name, value in vars(arguments).items() if value != defaults[name]} == given
    assert defaults["peak_lr"] == 5e-4


def test_every_option_is_a_flag_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse_arguments(["--help"])
    assert exit_info.value.code == 0
    shown = capsys.readouterr().out
    for option in dataclasses.fields(TrainingArguments):
        assert f"--{option.name}" in shown
        assert option.metadata["help"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "--batch_size 0: too small; give 1 or more"),
        ({"batch_seconds": 0.0}, "--batch_seconds 0.0: too small; give a number above 0"),
        ({"peak_lr": -1.0}, "--peak_lr -1.0: too small; give a number above 0"),
        ({"peak_lr": float("nan")}, "--peak_lr nan: too small; give a number above 0"),
        ({"ema_decay": 1.0}, "--ema_decay 1.0: too large; give a number below 1"),
        ({"join_share": 1.2}, "--join_share 1.2: too large; give 1 or less"),
        ({"join_seconds": 0.0}, "--join_seconds 0.0: too small; give a number above 0"),
        ({"save_minutes": 0.0}, "--save_minutes 0.0: too small; give a number above 0"),
        ({"seed": 2**32}, "--seed 4294967296: too large; give 4294901760 or less"),
        ({"optimizer": "sgd"}, "--optimizer sgd: unknown; choose one of adamw, muon"),
        ({"noise_dir": Path("noise")}, "--noise_dir: is only used by augmentation; add --augment"),
    ],
)
def test_a_value_that_cannot_work_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        TrainingArguments(**changes)
    assert str(error.value) == message
