"""How fast `lact-asr transcribe --ray` is, and where the time would go on many GPUs.

    python benchmarks/many_machines.py --data_dir DATA_DIR --subset dev-mini --max_utterances 40
    python benchmarks/many_machines.py --data_dir DATA_DIR --subset dev-mini --on_paper

The first measures one process, and one and two workers on this machine, each with one thread, on the same recordings;
starting (Ray, and a process with a model, up to the first that is ready) is told apart. All must give the same
transcripts. The second prints a table for NUM_GPUS GPUs that is computed from its first lines: what one stage alone
could take in. Reading and writing are measured here, in processor time of one core; the model's work is counted, by
PyTorch, on tensors without memory; the others are given.
"""

import argparse
import pickle
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lact_asr_model.audio import SAMPLING_RATE, AudioReader
from lact_asr_model.commands import transcribe
from lact_asr_model.commands.recognizers import open_recognizer
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.files import GrowingFile
from lact_asr_model.recognition.output_formats import jsonl_line
from lact_asr_model.recognition.transcript import AudioSource, FileResult, TimedWord, Transcript

_NUM_WRITTEN = 2000
_FULL_SIZE = Path(__file__).parents[1] / "configs" / "hybrid_asr_config.json"


@dataclass(frozen=True)
class Run:
    """One way to recognise all recordings."""

    name: str
    start_seconds: float
    seconds: float
    texts: list[str]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="folder of the LibriSpeech subsets")
    parser.add_argument("--subset", required=True)
    parser.add_argument("--max_utterances", type=int, metavar="N", help="only the first N")
    parser.add_argument("--batch_size", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--use_ttt", action="store_true", help="adapt to each recording")
    paper = parser.add_argument_group("on paper")
    paper.add_argument("--on_paper", action="store_true", help="compute the table for many GPUs")
    paper.add_argument("--num_gpus", type=int, default=100, metavar="N", help="default: 100")
    paper.add_argument("--gpu_tflops", type=float, default=67.0, metavar="T", help="float32 of an H100 (default: 67)")
    paper.add_argument("--utilization", type=float, default=0.5, metavar="P", help="share of it (default: 0.5)")
    paper.add_argument(
        "--beam_speed", type=float, default=280.0, metavar="X", help="beam 50, x real time, on a core (default: 280)"
    )
    paper.add_argument("--utterance_seconds", type=float, default=10.0, metavar="S", help="mean (default: 10)")
    arguments = parser.parse_args()
    with one_line_errors():
        utterances = read_utterances(arguments.subset, arguments.data_dir)[: arguments.max_utterances]
        (_on_paper if arguments.on_paper else _measure)(arguments, utterances)


def _measure(arguments: argparse.Namespace, utterances: Sequence[Utterance]) -> None:
    sources = [AudioSource.of(utterance) for utterance in utterances]
    audio_seconds = sum(utterance.duration_seconds for utterance in utterances)
    runs = [
        _run("one process", arguments, sources),
        _run("1 worker", arguments, sources, "--ray=local", "--ray_workers=1"),
        _run("2 workers", arguments, sources, "--ray=local", "--ray_workers=2"),
    ]
    print("| | starting s | recognising s | s of audio / s | to one process |")
    print("|---|---|---|---|---|")
    for run in runs:
        speed, ratio = audio_seconds / run.seconds, runs[0].seconds / run.seconds
        print(f"| {run.name} | {run.start_seconds:.1f} | {run.seconds:.1f} | {speed:.1f} | {ratio:.2f} |")
    print(f"\n{len(sources)} recordings, {audio_seconds:.0f} s, batch size {arguments.batch_size}, 1 thread each")
    if any(run.texts != runs[0].texts for run in runs):
        raise UserError("the transcripts differ; see what the batches were")


def _run(name: str, arguments: argparse.Namespace, sources: Sequence[AudioSource], *flags: str) -> Run:
    words = ["unread", "--num_threads=1", f"--batch_size={arguments.batch_size}", *flags]
    options = transcribe.make_parser().parse_args(words + ["--use_ttt"] * arguments.use_ttt)
    texts = {}
    begin = time.perf_counter()
    with open_recognizer(options) as (_, recognize):
        start_seconds = time.perf_counter() - begin
        for number, result in recognize(sources, ()):
            if result.error is not None:
                raise result.error
            texts[number] = result.transcript.text if result.transcript else ""
        seconds = time.perf_counter() - begin - start_seconds
    return Run(name, start_seconds, seconds, [texts[number] for number in sorted(texts)])


def _on_paper(arguments: argparse.Namespace, utterances: Sequence[Utterance]) -> None:
    paths = {Path(utterance.audio_path) for utterance in utterances}
    kinds = " and ".join(sorted({path.suffix[1:].upper() for path in paths}))
    num_bytes = sum(path.stat().st_size for path in paths)
    begin = time.process_time()
    num_samples = sum(len(block) for path in paths for block in AudioReader(path))
    reading_speed = num_samples / SAMPLING_RATE / (time.process_time() - begin)
    bytes_per_second = num_bytes / (num_samples / SAMPLING_RATE)
    line_seconds = _written_line_seconds(arguments.utterance_seconds)
    gflop = _gflop_of_full_size(10.0)
    model_speed = arguments.gpu_tflops * 1e3 * arguments.utilization / (gflop / 10.0)
    worker_speed = 1 / (1 / model_speed + 1 / reading_speed)
    beam_speed = 1 / (1 / worker_speed + 1 / arguments.beam_speed)
    inputs = {
        f"{kinds}, MB an hour of audio (measured)": f"{bytes_per_second * 3600 / 1e6:.0f}",
        f"reading and decoding {kinds} on one core, x real time (measured)": f"{reading_speed:.0f}",
        "full-size model, GFLOP for 10 s of audio (counted)": f"{gflop:.0f}",
        "float32 TFLOP/s of a GPU, and the share that is reached (given)": f"{arguments.gpu_tflops:g}, "
        f"{arguments.utilization:g}",
        "beam 50 with the lexicon on one core, x real time (given)": f"{arguments.beam_speed:g}",
        "writing a transcript of so many seconds in the first process, µs (measured)": f"{line_seconds * 1e6:.0f} for "
        f"{arguments.utterance_seconds:g} s",
    }
    print("| input | |\n|---|---|")
    for name, value in inputs.items():
        print(f"| {name} | {value} |")
    num_gpus = arguments.num_gpus
    print(f"\n| computed | one | {num_gpus} GPUs, hours of audio an hour |\n|---|---|---|")
    for name, speed, count in (
        ("model alone, a GPU", model_speed, num_gpus),
        ("reading alone, a core for each GPU", reading_speed, num_gpus),
        ("a worker that reads, then recognises greedily", worker_speed, num_gpus),
        ("the same, then searches with beam 50 in its own process", beam_speed, num_gpus),
        ("writing alone, in the first process", arguments.utterance_seconds / line_seconds, 1),
    ):
        print(f"| {name} | {speed:.0f} x real time | {speed * count:,.0f} |")
    megabytes = worker_speed * num_gpus * bytes_per_second / 1e6
    print(f"\nRead from the shared file system by greedy workers: {megabytes:.0f} MB/s.")


def _written_line_seconds(utterance_seconds: float) -> float:
    """Processor time for a transcript of 2.5 words a second: received, formatted, added to a file."""
    words = [
        TimedWord("WORD", number * 0.4, number * 0.4 + 0.3, 0.9) for number in range(round(2.5 * utterance_seconds))
    ]
    transcript = Transcript(" ".join(word.word for word in words), words, utterance_seconds)
    received = pickle.dumps([FileResult(Path("a.flac"), transcript)])
    with tempfile.TemporaryDirectory() as folder:
        file = GrowingFile(Path(folder) / "transcripts.jsonl")
        begin = time.process_time()
        for number in range(_NUM_WRITTEN):
            (result,) = pickle.loads(received)
            file.append(jsonl_line(str(number), result.transcript) + "\n")
        seconds = time.process_time() - begin
        file.close()
    return seconds / _NUM_WRITTEN


def _gflop_of_full_size(seconds: float) -> float:
    """Of one forward pass, adaptation aside."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
    from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = HybridASRForCTC(HybridASRConfig.from_file(_FULL_SIZE)).eval()
        model(torch.zeros(1, round(seconds * SAMPLING_RATE)))
    return counter.get_total_flops() / 1e9


if __name__ == "__main__":
    main()
