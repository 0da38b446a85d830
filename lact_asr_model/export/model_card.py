"""The README of a model on the Hugging Face hub: what it is, how good, under which licence, and how to use it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.summary import format_table
from lact_asr_model.hybrid_network import HybridNetwork, count_parameters

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

_CARD = """---
{metadata}
---
# {name}

A speech recogniser of `lact-asr`: a convolutional encoder, blocks of windowed attention and a layer memory that each
recording rewrites as it is heard, and CTC. It can also adapt to a recording before it transcribes it.

| | |
|---|---|
| parameters | {parameters:.1f} million, {fast_weights:.0f} % of them fast weights |
| blocks | {config.num_hidden_layers} of width {config.hidden_size} |
| a frame | every {frame_ms:g} ms |
| audio | {config.sampling_rate} Hz |
| writes | {alphabet} |
| licence | {license} |

## Error rates

{figures}

## Use

```
pip install lact-asr
lact-asr transcribe --checkpoint {name} speech.wav
```

```python
from transformers import pipeline

import lact_asr_model.modeling_hybrid_asr  # the architecture

recognise = pipeline("automatic-speech-recognition", model="{name}")
print(recognise("speech.wav", chunk_length_s=30, return_timestamps="word"))
```
{more}"""


def make_card(
    name: str,
    model: HybridNetwork,
    vocabulary: Iterable[str],
    *,
    license: str | None = None,
    results: Iterable[str | Path] = (),
    earlier: "ModelCard | None" = None,
) -> str:
    """Markdown with the front matter that the hub reads.

    Args:
        name: id of the model on the hub.
        license: as the hub calls it, such as "cc-by-4.0"; None = that of the earlier card.
        results: `results.json` files of `lact-asr evaluate` and `lact-asr transcribe --data_dir`.
        earlier: the card of the checkpoint's folder, whose text is kept at the end.

    Raises:
        UserError: one of the results is no such file.
    """
    from huggingface_hub import ModelCardData

    known: Any = earlier.data if earlier else ModelCardData()
    license = license or known.license
    metadata = ModelCardData(
        language=known.language,
        license=license,
        library_name="transformers",
        pipeline_tag="automatic-speech-recognition",
        tags=["lact-asr", "ctc", "test-time-training"],
    )
    counts = count_parameters(model)
    letters = [symbol for symbol in vocabulary if len(symbol) == 1 and symbol != "|"]
    figures = "\n\n".join(_figures(Path(path)) for path in results)
    return _CARD.format(
        metadata=metadata.to_yaml(),
        name=name,
        parameters=counts["total"] / 1e6,
        fast_weights=100 * counts["fast_weight_share"],
        config=model.config,
        frame_ms=1000 * model.config.frame_seconds,
        alphabet=f"`{''.join(letters)}` and spaces",
        license=license or "not stated",
        figures=figures or "None were given when the model was uploaded.",
        more=f"\n{earlier.text.strip()}\n" if earlier else "",
    )


def _figures(path: Path) -> str:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "results" in content:
            return f"`{content['subset']}`:\n\n{format_table(content['results'])}"
        low, high = (100 * rate for rate in content["wer_interval"])
        settings = content["settings"]
        beam = "greedy" if settings["beam_size"] == 1 else f"beam {settings['beam_size']}"
        adapted = ", adapted" if settings["ttt"] else ""
        return (
            f"`{settings['subset']}`, {beam}{adapted}: word error rate {100 * content['wer']:.1f} % ({low:.1f} to "
            f"{high:.1f}) over {content['num_scored']} utterances."
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: is no results.json with error rates; give one of `lact-asr evaluate`") from None
