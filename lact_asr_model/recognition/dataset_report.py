"""Error rates and speed over a data set, as one record for machines and a few lines for people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lact_asr_model.data.utterance import Utterance
from lact_asr_model.errors import UserError
from lact_asr_model.metrics import (
    area_under_roc,
    character_errors,
    correct_words,
    error_report,
    word_errors,
)

if TYPE_CHECKING:
    from lact_asr_model.recognition.ray_workers import RayWorkers
    from lact_asr_model.recognition.transcriber import Transcriber
    from lact_asr_model.recognition.transcript import Transcript


def dataset_results(
    transcribed: Sequence[tuple[Utterance, "Transcript"]],
    failures: Mapping[str, str],
    transcriber: "Transcriber | RayWorkers",
    settings: Mapping[str, Any],
    num_resumed: int = 0,
) -> dict[str, Any]:
    """What `results.json` holds.

    Error rates are of the corpus (counts pooled), over utterances that have a reference and were transcribed, with a
    95 % bootstrap interval over utterances. RTFx is seconds of audio per second of computing, reading not included, of
    what this run has recognised; seconds of several workers are added up.
    The area under the ROC curve says how well the confidence of words tells right from wrong ones (0.5: not at all).

    Args:
        transcribed: every transcribed utterance.
        failures: reason by id of every other one.
        transcriber: the one that did the work.
        settings: from `describe_settings`.
        num_resumed: how many of the transcripts an earlier run has made.
    """
    pairs = [(utterance.text, transcript.text) for utterance, transcript in transcribed if utterance.text is not None]
    seconds = transcriber.stage_seconds
    return {
        "num_utterances": len(transcribed),
        "num_resumed": num_resumed,
        "num_failed": len(failures),
        "num_scored": len(pairs),
        "num_adapted": sum(transcript.is_adapted for _, transcript in transcribed),
        "audio_seconds": round(sum(transcript.duration_seconds for _, transcript in transcribed), 3),
        **error_report([word_errors(*pair) for pair in pairs], [character_errors(*pair) for pair in pairs]),
        "confidence_auc": area_under_roc(
            [word.confidence for utterance, transcript in transcribed if utterance.text for word in transcript.words],
            [label for pair in pairs if pair[0] for label in correct_words(*pair)],
        ),
        "rtfx": {
            "total": _ratio(transcriber.audio_seconds, sum(seconds.values())),
            **{stage: _ratio(transcriber.audio_seconds, seconds[stage]) for stage in seconds},
        },
        "compute_seconds": {stage: round(seconds[stage], 4) for stage in seconds},
        "failures": dict(failures),
        "settings": dict(settings),
        "run": transcriber.describe_run(),
    }


def describe_settings(transcriber: "Transcriber | RayWorkers", given: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the transcripts depend on: the options `given`, and what the transcriber makes of them."""
    options = transcriber.ttt_options
    return {
        **given,
        "batch_size": transcriber.batch_size,
        "chunk_seconds": transcriber.chunk_seconds,
        "ttt": asdict(options) if options else None,
    }


def check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to go on with a `results.json`, if there is one, of other settings. Raises UserError."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["settings"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: is not a file of `lact-asr transcribe`; give another --output_dir") from None
    for name, value in json.loads(json.dumps(settings)).items():
        if stored.get(name) != value:
            raise UserError(
                f"{path}: has {name} {stored.get(name)!r}, not {value!r}; give the same option to --resume, or "
                "--overwrite"
            )


def format_results(results: Mapping[str, Any]) -> str:
    """The results in a few lines."""
    failed = f", {results['num_failed']} failed and not counted" if results["num_failed"] else ""
    adapted = f", {results['num_adapted']} adapted" if results["settings"]["ttt"] else ""
    resumed = f", {results['num_resumed']} of them transcribed before" if results["num_resumed"] else ""
    minutes = results["audio_seconds"] / 60
    lines = [f"{results['num_utterances']} utterances, {minutes:.1f} min{resumed}{adapted}{failed}"]
    for name, unit in (("wer", "words"), ("cer", "characters")):
        rate, counts = results[name], results[unit]
        if rate is not None:
            low, high = results[f"{name}_interval"]
            errors = counts["substitutions"] + counts["deletions"] + counts["insertions"]
            lines.append(
                f"{name.upper()}  {100 * rate:.2f} % [{100 * low:.2f}, {100 * high:.2f}]  "
                f"{errors} errors in {counts['reference_length']} {unit} ({counts['substitutions']} substituted, "
                f"{counts['deletions']} deleted, {counts['insertions']} inserted)"
            )
    if results["confidence_auc"] is not None:
        lines.append(f"confidence of words: area under the ROC curve {results['confidence_auc']:.3f}")
    speeds = results["rtfx"]
    stages = ", ".join(f"{stage} {speeds[stage]}" for stage in results["compute_seconds"] if speeds[stage] is not None)
    run, settings = results["run"], results["settings"]
    if speeds["total"] is not None:
        lines.append(
            f"RTFx {speeds['total']} ({stages}) on {run['hardware']}, {run['num_threads']} threads, "
            f"batch size {settings['batch_size']}"
        )
    return "\n".join(lines)


def _ratio(audio_seconds: float, seconds: float) -> float | None:
    return round(audio_seconds / seconds, 2) if seconds > 0 else None
