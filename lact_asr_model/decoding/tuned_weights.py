"""Weights that were tuned for an acoustic model and a language model, kept beside the acoustic model."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lact_asr_model.errors import UserError
from lact_asr_model.files import write_atomically

FILE_NAME = "decoding.json"
ADAPTED = "adapted"


@dataclass(frozen=True)
class Weights:
    """Of a hypothesis: log P(text | audio) + lm_weight · log P(text) + word_score · words, natural logarithms."""

    lm_weight: float = 0.5
    word_score: float = 0.5


def read_tuned_weights(folder: Path, lm_sha256: str, *, for_adapted: bool = False) -> Weights | None:
    """The weights in the folder of an acoustic model, if there are any for the language model of that checksum.

    Args:
        for_adapted: those for what the model says after adaptation; if there are none, the others.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["lm_sha256"] != lm_sha256:
            return None
        chosen = content[ADAPTED] if for_adapted and ADAPTED in content else content
        return Weights(float(chosen["lm_weight"]), float(chosen["word_score"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: is not a file of `lact-asr tune-lm`; run it again, or delete the file") from None


def write_tuned_weights(
    folder: Path, weights: Weights, lm_sha256: str, tuning: dict[str, Any], *, for_adapted: bool = False
) -> Path:
    """Write weights into the folder of an acoustic model, with an account of the tuning. Raises UserError.

    Those for the other mode stay as they are, if they were tuned for the same language model.
    """
    path = folder / FILE_NAME
    entry = {**asdict(weights), "tuning": tuning}
    others = read_tuned_weights(folder, lm_sha256)
    content = json.loads(path.read_text(encoding="utf-8")) if others else {"lm_sha256": lm_sha256}
    content |= {ADAPTED: entry} if for_adapted else entry
    if "lm_weight" not in content:
        content |= asdict(Weights())
    write_atomically(path, json.dumps(content, indent=2) + "\n")
    return path
