from pathlib import Path

import pytest
import torch

from lact_asr_model.checkpoint_io import load_checkpoint
from lact_asr_model.training.fit_head import main


def run(checkpoint_dir: Path, data_dir: Path, output_dir: Path, **options: object) -> None:
    given = {
        "init_from": checkpoint_dir,
        "data_dir": data_dir,
        "train_subset": "train-tiny",
        "output_dir": output_dir,
        "num_workers": 0,
        **options,
    }
    main([text for name, value in given.items() for text in (f"--{name}", str(value))])


def test_only_the_head_learns_and_it_begins_at_chance(
    checkpoint_dir: Path, librispeech_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(checkpoint_dir, librispeech_dir, tmp_path / "fitted", epochs=100, batch_seconds=3, peak_lr=0.05)
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 100
    assert losses[-1] < 0.5 * losses[0]

    (before, _), (after, _) = load_checkpoint(checkpoint_dir), load_checkpoint(tmp_path / "fitted")
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, after.state_dict()[name]) != name.startswith("lm_head."), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs 0: is not above 0"),
        ({"peak_lr": -1}, "--peak_lr -1.0: too small; give a number above 0"),
        ({"num_workers": -1}, "--num_workers -1: too small; give 0 or more"),
        ({"batch_seconds": 0}, "--batch_seconds 0.0: too small; give a number above 0"),
    ],
)
def test_a_value_that_cannot_work_is_an_error(
    checkpoint_dir: Path,
    librispeech_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, float],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(checkpoint_dir, librispeech_dir, tmp_path / "fitted", **options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "fitted").exists()
