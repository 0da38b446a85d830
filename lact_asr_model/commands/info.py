"""Size and frame geometry of a model: `lact-asr info`."""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lact_asr_model.errors import one_line_errors

if TYPE_CHECKING:
    from lact_asr_model.hybrid_network import HybridNetwork

MILLISECONDS = 1000


def model_facts(model: "HybridNetwork") -> dict[str, Any]:
    """Frame geometry, shape and parameter counts of `model`; it may live on the meta device."""
    from lact_asr_model.hybrid_network import count_parameters

    config = model.config
    return {
        "frames_per_10_seconds": config.num_frames(10 * config.sampling_rate),
        "frame_milliseconds": config.frame_seconds * MILLISECONDS,
        "samples_per_frame": config.samples_per_frame,
        "receptive_field_milliseconds": config.receptive_field_samples / config.sampling_rate * MILLISECONDS,
        "sampling_rate_hz": config.sampling_rate,
        "layers": config.num_hidden_layers,
        "intermediate_ctc_heads_after_layers": list(config.intermediate_ctc_layers),
        "hidden_size": config.hidden_size,
        "attention_heads": config.num_attn_heads,
        "attention_window_seconds": config.window_size * config.frame_seconds,
        "fast_weight_heads": config.num_lact_heads,
        "vocabulary": config.vocab_size,
        **count_parameters(model),
    }


def format_facts(facts: dict[str, Any]) -> str:
    """One `name  value` line for each fact, counts with thousands separators."""
    width = max(len(name) for name in facts)
    return "\n".join(f"{name:<{width}}  {_format_value(value)}" for name, value in facts.items())


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the facts of a configuration, a checkpoint, or the bundled model."""
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        facts = model_facts(_load(arguments))
    print(json.dumps(facts) if arguments.json else format_facts(facts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Show the size and the frame geometry of a model.")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--config", metavar="FILE", help="JSON configuration; the model is counted, not allocated")
    source.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint folder or best_model.pt (default: the model of the package)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _load(arguments: argparse.Namespace) -> "HybridNetwork":
    """The model of a checkpoint, or, without weights, that of a configuration."""
    import torch

    from lact_asr_model.checkpoint_io import load_network
    from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
    from lact_asr_model.hybrid_network import HybridNetwork

    if arguments.config is None:
        return load_network(arguments.checkpoint)[0]
    with torch.device("meta"):
        return HybridNetwork(HybridASRConfig.from_file(arguments.config))
