"""The `listen` command: live captions of a microphone or a pipe of raw audio."""

import argparse
import io
import queue
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from lact_asr_model.commands.options import add_decoding_options, add_model_options, load_model, start_decoder
from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.files import standard_input

if TYPE_CHECKING:
    from lact_asr_model.serving.caption_window import Captions

_PIECE_BYTES = 65536  # at most, 2 s; what has arrived comes at once
_CLEAR_LINE, _FAINT, _NORMAL = "\r\x1b[K", "\x1b[2m", "\x1b[0m"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command until the audio ends, or Ctrl-C."""
    parser = argparse.ArgumentParser(
        description="Show what is said while it is said. Words that will not change are printed; on a terminal, those "
        "that still may follow them. Example: ffmpeg -i IN -f s16le -ac 1 -ar 16000 - | lact-asr listen"
    )
    parser.add_argument(
        "--microphone",
        nargs="?",
        const="",
        metavar="NAME",
        help="listen to the microphone, or to that one, instead of raw audio (16-bit, one channel, 16 kHz) from stdin",
    )
    add_decoding_options(parser)
    add_model_options(parser)
    with one_line_errors():
        _listen(parser.parse_args(argv))


def _listen(arguments: argparse.Namespace) -> None:
    if sys.stdout is None:
        raise UserError("standard output: is closed; connect it, as captions are printed there")
    if arguments.microphone is None and standard_input().isatty():
        raise UserError("stdin: it is a terminal, not audio; pipe raw audio into it, or give --microphone")
    pieces = _standard_input() if arguments.microphone is None else _microphone(arguments.microphone)
    model = load_model(arguments)

    from lact_asr_model.recognition.transcriber import Transcriber
    from lact_asr_model.serving.caption_window import CaptionWindow, caption
    from lact_asr_model.serving.pcm import PcmDecoder

    transcriber = Transcriber(model, decoder=start_decoder(arguments, model), device=model.device)
    decoder = PcmDecoder()
    chunks = (decoder.decode(piece) for piece in pieces)
    show = _show_on_terminal if sys.stdout.isatty() else _show
    show(caption(chunks, lambda samples: transcriber.recognize([samples])[0].words, CaptionWindow()))


def _show(parts: Iterable["Captions"]) -> None:
    """Print the stable words."""
    for captions in parts:
        print("".join(f"{word.word} " for word in captions.stable), end="", flush=True)
    print()


def _show_on_terminal(parts: Iterable["Captions"]) -> None:
    """The same in lines, the last of which goes on with what may still change."""
    line = ""
    num_columns = shutil.get_terminal_size().columns
    for captions in parts:
        for word in captions.stable:
            if len(line) + len(word.word) > num_columns * 3 // 4:
                print(_CLEAR_LINE + line)
                line = ""
            line += f"{word.word} "
        tail = " ".join(word.word for word in captions.tail)[: max(num_columns - len(line) - 1, 0)]
        print(f"{_CLEAR_LINE}{line}{_FAINT}{tail}{_NORMAL}", end="", flush=True)
    print()


def _standard_input() -> Iterator[bytes]:
    file = cast(io.BufferedReader, standard_input())
    while piece := file.read1(_PIECE_BYTES):
        yield piece


def _microphone(name: str) -> Iterator[bytes]:
    """Raw audio of a microphone, by a part of its name or its number. Raises UserError."""
    try:
        import sounddevice
    except ImportError:
        raise UserError('--microphone: needs the microphone extra; run `pip install "lact-asr[microphone]"`') from None
    except OSError:
        raise UserError("--microphone: needs the library PortAudio; run `apt install libportaudio2`") from None

    from lact_asr_model.audio import SAMPLING_RATE

    pieces: queue.Queue[bytes] = queue.Queue()

    def keep(content: Any, num_frames: int, time: Any, status: Any) -> None:
        pieces.put(bytes(content))

    device = int(name) if name.isdecimal() else name or None
    try:
        stream = sounddevice.RawInputStream(
            samplerate=SAMPLING_RATE, channels=1, dtype="int16", device=device, callback=keep
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--microphone {name or 'default'}: cannot be used ({reason}); give another name") from None

    def listen() -> Iterator[bytes]:
        with stream:
            while True:
                piece = pieces.get()
                while not pieces.empty():
                    piece += pieces.get()
                yield piece

    return listen()
