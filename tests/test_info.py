"""`lact-asr info`: what it says of a configuration and of a checkpoint."""

import json
from pathlib import Path

import pytest

from lact_asr_model.checkpoint_io import save_pretrained_folder
from lact_asr_model.commands import info
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.text import build_vocabulary, make_processor

CONFIGS = Path(__file__).parents[1] / "configs"


def test_the_full_size_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    info.main(["--config", str(CONFIGS / "hybrid_asr_config.json"), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["frames_per_10_seconds"] == 799
    assert facts["frame_milliseconds"] == 12.5
    assert facts["receptive_field_milliseconds"] == 25
    assert facts["fast_weights"] == 16 * 3 * 768 * 1536  # layers, matrices, hidden sizes: whatever the number of heads
    assert facts["adapter"] == facts["fast_weights"] + 16 * 3 * 768 * 768  # own query, key and value projections
    assert 0.25 < facts["fast_weight_share"] < 0.30
    assert facts["fast_weight_share"] == pytest.approx(facts["fast_weights"] / facts["total"])


def test_people_get_one_fact_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    info.main(["--config", str(CONFIGS / "hybrid_asr_config.json")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["frames_per_10_seconds", "799"]
    assert ["fast_weights", "56,623,104"] in [line.split() for line in lines]
    assert ["intermediate_ctc_heads_after_layers", "none"] in [line.split() for line in lines]


def test_intermediate_heads_are_named_by_their_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = json.loads((CONFIGS / "tiny_asr_config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({**fields, "num_hidden_layers": 5, "intermediate_ctc_layers": [1, 3]})
    )
    info.main(["--config", str(tmp_path / "config.json")])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("intermediate_ctc")]
    assert line.split(maxsplit=1)[1] == "1, 3"


def test_a_checkpoint(tiny_model: HybridASRForCTC, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vocabulary = build_vocabulary(["ABCDEFGHIJKLMNOPQRSTUVWXYZ'"])
    save_pretrained_folder(tmp_path / "checkpoint", tiny_model, make_processor(vocabulary))
    info.main(["--checkpoint", str(tmp_path / "checkpoint"), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["vocabulary"] == len(vocabulary)
    assert facts["total"] == sum(parameter.numel() for parameter in tiny_model.parameters())
