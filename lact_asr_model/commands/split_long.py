"""The `split-long` command: utterances that are too long for training, in parts with their transcripts."""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lact_asr_model.commands.data_options import add_preparation_options
from lact_asr_model.commands.finished_work import read_finished
from lact_asr_model.commands.options import add_model_options, load_model
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.spelling import load_speller
from lact_asr_model.data.utterance import Reading, Utterance, load_samples
from lact_asr_model.errors import UserError, one_line_errors, print_warning
from lact_asr_model.files import GrowingFile, complete_file, fitting_name, write_atomically

if TYPE_CHECKING:
    from lact_asr_model.acoustic_models.acoustic_model import AcousticModel

MANIFEST = "manifest.jsonl"
PROGRESS = "splits.jsonl"
AUDIO = "audio"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command: align, cut and write; print what came of it."""
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        print(_run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Split long training utterances at pauses, where a CTC model hears them between two words.",
        epilog=f"OUTPUT_DIR gets {AUDIO}/*.flac, {MANIFEST} for --train_subset (join it to the data set with +), and "
        f"{PROGRESS}, which says what became of every long utterance. Shorter utterances stay where they are.",
    )
    data = add_preparation_options(
        parser,
        subset_help="what to split, given like --train_subset of `lact-asr train`",
        output_help="a new folder for the parts",
    )
    data.add_argument("--normalize", action="store_true", help="spell numbers and symbols out (normalize extra)")
    parts = parser.add_argument_group("parts")
    parts.add_argument(
        "--max_seconds", type=float, default=15.6, metavar="S", help="longest part (default: 15.6, as in training)"
    )
    parts.add_argument(
        "--min_confidence",
        type=float,
        default=0.6,
        metavar="P",
        help="leave a part out whose words fit the audio with a lower mean probability, 0 to 1 (default: 0.6)",
    )
    add_model_options(parser)
    return parser


def _run(arguments: argparse.Namespace) -> str:
    if not arguments.max_seconds >= 1:
        raise UserError(f"--max_seconds {arguments.max_seconds:g}: is below 1; give what training can take")
    if not 0 <= arguments.min_confidence <= 1:
        raise UserError(f"--min_confidence {arguments.min_confidence:g}: is not from 0 to 1; the default is 0.6")
    bad_items: list[UserError] = []
    reading = Reading(spell_out=load_speller() if arguments.normalize else None)
    found = read_utterances(arguments.subset, arguments.data_dir, reading=reading, on_bad_item=bad_items.append)
    if bad_items:
        print_warning(f"left out: {len(bad_items)} bad items, such as {bad_items[0]}")
    long = [utterance for utterance in found if utterance.duration_seconds > arguments.max_seconds]
    names = ("subset", "normalize", "max_seconds", "min_confidence", "checkpoint", "language")
    settings = {name: getattr(arguments, name) for name in names}
    head = {"settings": {**settings, "num_long": len(long)}}
    done = read_finished(arguments.output_dir / PROGRESS, head, resume=arguments.resume)
    if len(done) < len(long):
        from tqdm.auto import tqdm

        model = load_model(arguments)
        (arguments.output_dir / AUDIO).mkdir(exist_ok=True)
        progress_path = arguments.output_dir / PROGRESS
        progress = GrowingFile(progress_path, progress_path.stat().st_size)
        for number in tqdm(range(len(done), len(long)), initial=len(done), total=len(long), unit="utt", disable=None):
            entry = _split(model, long[number], number, arguments)
            progress.append(json.dumps(entry, ensure_ascii=False) + "\n")
            done.append(entry)
        progress.close()
    manifest_path = arguments.output_dir / MANIFEST
    lines = [json.dumps(part, ensure_ascii=False) + "\n" for entry in done for part in entry["parts"]]
    write_atomically(manifest_path, "".join(lines))
    return _describe(done, long, arguments, manifest_path)


def _split(model: "AcousticModel", utterance: Utterance, number: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The parts of an utterance, written, and what was left out of it, with the reason."""
    import soundfile

    from lact_asr_model.audio import SAMPLING_RATE
    from lact_asr_model.recognition.splitting import split_utterance

    entry: dict[str, Any] = {"id": utterance.id, "parts": [], "left_out": []}
    try:
        if not utterance.text:
            raise UserError("it has no transcript")
        samples = load_samples(utterance)
        parts = split_utterance(model, samples, utterance.text, arguments.max_seconds)
    except UserError as error:
        entry["left_out"].append({"duration": utterance.duration_seconds, "reason": str(error)})
        return entry
    for index, part in enumerate(parts):
        seconds, confidence = round(part.duration_seconds, 3), round(part.confidence, 3)
        about = {"duration": seconds, "confidence": confidence, "text": part.text}
        if part.duration_seconds > arguments.max_seconds:
            entry["left_out"].append({**about, "reason": "no pause between its words"})
        elif part.confidence < arguments.min_confidence:
            entry["left_out"].append({**about, "reason": "low confidence"})
        else:
            stem = f"{number:06d}-{re.sub(r'[^A-Za-z0-9._-]', '_', utterance.id)}"
            path = Path(AUDIO) / fitting_name(stem, f"-{index:03d}.flac")
            start, end = (round(at * SAMPLING_RATE) for at in (part.start_seconds, part.end_seconds))
            with complete_file(arguments.output_dir / path) as file:
                soundfile.write(file, samples[start:end], SAMPLING_RATE, format="FLAC", subtype="PCM_16")
            speaker = {} if utterance.speaker is None else {"speaker": utterance.speaker}
            where = {"id": f"{utterance.id}-{index:03d}", "audio_filepath": str(path)}
            entry["parts"].append({**where, **about, **speaker, "source_start": round(part.start_seconds, 3)})
    return entry


def _describe(
    done: Sequence[dict[str, Any]], long: Sequence[Utterance], arguments: argparse.Namespace, manifest_path: Path
) -> str:
    parts = [part for entry in done for part in entry["parts"]]
    counts: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for item in _left_out(done):
        counts[item["reason"]] += 1
        seconds[item["reason"]] += item["duration"]
    lines = [
        f"{len(long)} utterances longer than {arguments.max_seconds:g} s, "
        f"{_hours(sum(utterance.duration_seconds for utterance in long))}: {len(parts)} parts, "
        f"{_hours(sum(part['duration'] for part in parts))}, in {manifest_path}"
    ]
    lines += [f"left out: {counts[reason]}, {_hours(seconds[reason])}: {reason}" for reason in sorted(counts)]
    if parts:
        lines.append(f"train with --train_subset {arguments.subset}+{manifest_path.resolve()}")
    return "\n".join(lines)


def _left_out(done: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in done:
        yield from entry["left_out"]


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h"
