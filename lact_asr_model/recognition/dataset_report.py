"""Error rates and speed over a data set, as one record for machines and a few lines for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lact_asr_model.data.utterance import Utterance
from lact_asr_model.metrics import (
    ErrorCounts,
    area_under_roc,
    bootstrap_interval,
    character_errors,
    correct_words,
    word_errors,
)
from lact_asr_model.recognition.run_description import describe_run

if TYPE_CHECKING:
    from lact_asr_model.recognition.transcriber import Transcriber
    from lact_asr_model.recognition.transcript import Transcript


def dataset_results(
    transcribed: Sequence[tuple[Utterance, "Transcript"]],
    failures: Mapping[str, str],
    transcriber: "Transcriber",
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """What `results.json` holds.

    Error rates are of the corpus (counts pooled), over utterances that have a reference and were transcribed, with a
    95 % bootstrap interval over utterances. RTFx is seconds of audio per second of computing, reading not included.
    The area under the ROC curve says how well the confidence of words tells right from wrong ones (0.5: not at all).

    Args:
        transcribed: every transcribed utterance.
        failures: reason by id of every other one.
        transcriber: the one that did the work.
        settings: how it was called.
    """
    pairs = [(utterance.text, transcript.text) for utterance, transcript in transcribed if utterance.text is not None]
    seconds = transcriber.stage_seconds
    options = transcriber.ttt_options
    return {
        "num_utterances": len(transcribed),
        "num_failed": len(failures),
        "num_scored": len(pairs),
        "num_adapted": sum(transcript.is_adapted for _, transcript in transcribed),
        "audio_seconds": round(transcriber.audio_seconds, 3),
        "wer": _rate([word_errors(*pair) for pair in pairs]),
        "cer": _rate([character_errors(*pair) for pair in pairs]),
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
        "settings": {
            **settings,
            "batch_size": transcriber.batch_size,
            "chunk_seconds": transcriber.chunk_seconds,
            "ttt": asdict(options) if options else None,
        },
        "run": describe_run(transcriber.device),
    }


def format_results(results: Mapping[str, Any]) -> str:
    """The results in a few lines."""
    failed = f", {results['num_failed']} failed and not counted" if results["num_failed"] else ""
    adapted = f", {results['num_adapted']} adapted" if results["settings"]["ttt"] else ""
    lines = [f"{results['num_utterances']} utterances, {results['audio_seconds'] / 60:.1f} min{adapted}{failed}"]
    for name, unit in (("wer", "words"), ("cer", "characters")):
        counts = results[name]
        if counts is not None:
            low, high = counts["interval_95"]
            errors = counts["substitutions"] + counts["deletions"] + counts["insertions"]
            lines.append(
                f"{name.upper()}  {100 * counts['rate']:.2f} % [{100 * low:.2f}, {100 * high:.2f}]  "
                f"{errors} errors in {counts['reference_length']} {unit} ({counts['substitutions']} substituted, "
                f"{counts['deletions']} deleted, {counts['insertions']} inserted)"
            )
    if results["confidence_auc"] is not None:
        lines.append(f"confidence of words: area under the ROC curve {results['confidence_auc']:.3f}")
    speeds = results["rtfx"]
    stages = ", ".join(f"{stage} {speeds[stage]}" for stage in results["compute_seconds"] if speeds[stage] is not None)
    run, settings = results["run"], results["settings"]
    lines.append(
        f"RTFx {speeds['total']} ({stages}) on {run['hardware']}, {run['num_threads']} threads, "
        f"batch size {settings['batch_size']}"
    )
    return "\n".join(lines)


def _rate(counts: Sequence[ErrorCounts]) -> dict[str, Any] | None:
    if not counts:
        return None
    total = sum(counts, ErrorCounts())
    return {"rate": total.rate, "interval_95": list(bootstrap_interval(counts)), **asdict(total)}


def _ratio(audio_seconds: float, seconds: float) -> float | None:
    return round(audio_seconds / seconds, 2) if seconds > 0 else None
