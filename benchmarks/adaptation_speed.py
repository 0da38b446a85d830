"""What adaptation costs beside a plain pass, one recording at a time and in batches.

    python benchmarks/adaptation_speed.py [--quick] [--write]

The bundled model and recordings, which differ in length. Every method recognises all of them, as singles and in each
size of batch, by the recogniser that `lact-asr transcribe` has: on a CPU, only those of a batch whose lengths are
similar share a pass. The table has the processor time of a recording as a multiple of a plain pass over it as a single.
SUTA takes one recording at a time.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice

import measuring
import numpy as np
import torch

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.peers import PEERS, Peer
from lact_asr_model.audio import load_audio
from lact_asr_model.commands.demo import RECORDINGS_DIR
from lact_asr_model.evaluation.summary import markdown_table
from lact_asr_model.recognition.transcriber import Transcriber

BATCH_SIZES, QUICK_BATCH_SIZES = (1, 4, 8, 16), (1, 2)
PLAIN, SUTA = "plain", "SUTA, 10 steps"


def main(argv: Sequence[str] | None = None) -> None:
    measuring.run(measuring.make_parser(__doc__), _measure, argv)


def _measure(arguments: argparse.Namespace) -> str:
    torch.set_num_threads(arguments.num_threads)
    sizes = QUICK_BATCH_SIZES if arguments.quick else BATCH_SIZES
    paths = sorted(RECORDINGS_DIR.glob("*.mp3"))
    recordings = [load_audio(path) for path in islice(cycle(paths), max(sizes))]
    model = load()
    methods: dict[str, AdaptationOptions | Peer | None] = {PLAIN: None}
    for steps in (1, 2):
        for speed in ("exact", "fast"):
            name = f"{steps} {speed} step{'s' if steps > 1 else ''}"
            methods[name] = replace(model.default_options, steps=steps, speed=speed)
    methods[SUTA] = PEERS["suta"]
    Transcriber(model).recognize(recordings[:1])  # what comes first is slower

    calls: dict[tuple[str, int], Callable[[], object]] = {
        (name, size): partial(_recognize, model, recordings, options, size)
        for name, options in methods.items()
        for size in (sizes if name != SUTA else (1,))
    }
    seconds = measuring.side_by_side(calls, num_rounds=1 if arguments.quick else 5, limit_seconds=1800)
    plain_seconds = seconds[PLAIN, 1]
    rows = [["in plain passes", *("singles" if size == 1 else f"batches of {size}" for size in sizes)]]
    for name in methods:
        cells = [seconds.get((name, size)) for size in sizes]
        rows.append([name, *("" if cell is None else f"{cell / plain_seconds:.2f}" for cell in cells)])
    audio_seconds = sum(map(len, recordings)) / model.sampling_rate
    heading = f"{len(recordings)} recordings, {audio_seconds:.0f} s; a plain pass takes {plain_seconds:.2f} s over all"
    return f"{heading}:\n\n{markdown_table(rows)}"


def _recognize(
    model: AcousticModel, recordings: Sequence[np.ndarray], options: AdaptationOptions | Peer | None, batch_size: int
) -> None:
    transcriber = Transcriber(model, ttt_options=options)
    for start in range(0, len(recordings), batch_size):
        transcriber.recognize(recordings[start : start + batch_size])


if __name__ == "__main__":
    main()
