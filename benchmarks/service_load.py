"""The service under load: clients at once, some of whose requests are broken; every answer is checked.

    python benchmarks/service_load.py --num_clients 16 --seconds 300

Starts `lact-asr serve` on a free port of this machine, asks for each bundled recording alone, plain and adapted, then
lets the clients ask at random for so many seconds. A good request must get the answer it got alone, a broken one an
error in OpenAI's format. Prints a Markdown table; exits with 1 if an answer was wrong.
"""

import argparse
import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from lact_asr_model.audio import audio_duration_seconds
from lact_asr_model.commands.demo import RECORDINGS_DIR
from lact_asr_model.errors import UserError, one_line_errors

_BOUNDARY = "b"
_SHORT = RECORDINGS_DIR / "1673-143397-0008.mp3"


@dataclass(frozen=True)
class Question:
    """A good request."""

    path: Path
    adapt: bool

    def fields(self) -> dict[str, Any]:
        data = {"model": "lact-asr", "adapt": str(self.adapt), "response_format": "verbose_json"}
        return {"files": {"file": (self.path.name, self.path.read_bytes())}, "data": data}


@dataclass
class Tally:
    """What the clients have seen. megabytes: resident memory of the server, once a second; processor_seconds: its."""

    seconds: list[float] = field(default_factory=list)
    audio_seconds: float = 0.0
    num_broken: int = 0
    wrong: list[str] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    elapsed_seconds: float = 0.0
    processor_seconds: float = 0.0


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_clients", type=int, default=16, metavar="N", help="default: 16")
    parser.add_argument("--seconds", type=float, default=300.0, metavar="S", help="default: 300")
    parser.add_argument("--broken_share", type=float, default=0.1, metavar="P", help="default: 0.1")
    parser.add_argument("--adapt_share", type=float, default=0.1, metavar="P", help="default: 0.1")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    with one_line_errors():
        _measure(parser.parse_args())


def _measure(arguments: argparse.Namespace) -> None:
    command = [sys.executable, "-m", "lact_asr_model.cli", "serve", "--port", "0", "--num_threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            if not line.startswith("note: "):
                raise UserError(f"the server did not start: {line}")
            tally = asyncio.run(_ask_all(line.split()[-1], psutil.Process(server.pid), arguments))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
    _print_table(tally, arguments)
    for wrong in tally.wrong[:10]:
        print(wrong, file=sys.stderr)
    if tally.wrong:
        raise SystemExit(1)


async def _ask_all(address: str, server: psutil.Process, arguments: argparse.Namespace) -> Tally:
    tally = Tally()
    questions = [Question(path, adapt) for path in sorted(RECORDINGS_DIR.glob("*.mp3")) for adapt in (False, True)]
    limits = httpx.Limits(max_connections=arguments.num_clients + 1)
    async with httpx.AsyncClient(base_url=f"{address}/", timeout=600, limits=limits) as client:
        alone = {question: (await _ask(client, question)).json() for question in questions}
        start_seconds, used_seconds = time.monotonic(), sum(server.cpu_times()[:2])
        end_seconds = start_seconds + arguments.seconds
        async with asyncio.TaskGroup() as tasks:
            for number in range(arguments.num_clients):
                chance = random.Random(f"{arguments.seed} {number}")
                tasks.create_task(_behave(client, alone, tally, chance, end_seconds, arguments))
            while time.monotonic() < end_seconds:
                tally.megabytes.append(server.memory_info().rss / 1e6)
                await asyncio.sleep(1.0)
        tally.elapsed_seconds = time.monotonic() - start_seconds
        tally.processor_seconds = sum(server.cpu_times()[:2]) - used_seconds
    return tally


async def _behave(
    client: httpx.AsyncClient,
    alone: dict[Question, Any],
    tally: Tally,
    chance: random.Random,
    end_seconds: float,
    arguments: argparse.Namespace,
) -> None:
    """One client, until the end."""
    questions = {adapt: [question for question in alone if question.adapt == adapt] for adapt in (False, True)}
    while time.monotonic() < end_seconds:
        if chance.random() < arguments.broken_share:
            name = chance.choice(list(_BROKEN))
            tally.num_broken += 1
            response = await client.post("audio/transcriptions", **_BROKEN[name](chance))
            if not 400 <= response.status_code < 500 or "message" not in response.json()["error"]:
                tally.wrong.append(f"{name}: {response.status_code} {response.text}")
            continue
        question = chance.choice(questions[chance.random() < arguments.adapt_share])
        start_seconds = time.perf_counter()
        response = await _ask(client, question)
        tally.seconds.append(time.perf_counter() - start_seconds)
        tally.audio_seconds += audio_duration_seconds(question.path)
        if response.status_code != 200 or not _are_equal(response.json(), alone[question]):
            tally.wrong.append(f"{question}: {response.status_code} {response.text}")


async def _ask(client: httpx.AsyncClient, question: Question) -> httpx.Response:
    return await client.post("audio/transcriptions", **question.fields())


def _are_equal(answer: dict[str, Any], alone: dict[str, Any]) -> bool:
    """Text and times to the millisecond; the mean confidence of a segment, which sums of floats move, to 0.01."""
    pairs = zip(answer["segments"], alone["segments"], strict=True)
    return answer["text"] == alone["text"] and all(
        {**ours, "avg_logprob": 0} == {**theirs, "avg_logprob": 0}
        and abs(ours["avg_logprob"] - theirs["avg_logprob"]) < 0.01
        for ours, theirs in pairs
    )


def _multipart(body: bytes) -> dict[str, Any]:
    return {"content": body, "headers": {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}}


_BROKEN: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "noise for audio": lambda chance: {"files": {"file": chance.randbytes(5000)}, "data": {"model": "lact-asr"}},
    "an empty file": lambda chance: {"files": {"file": b""}, "data": {"model": "lact-asr"}},
    "no file": lambda chance: {"data": {"model": "lact-asr"}},
    "no model": lambda chance: {"files": {"file": b"RIFF"}},
    "another model": lambda chance: {"files": {"file": _SHORT.read_bytes()}, "data": {"model": "none"}},
    "half a part": lambda chance: _multipart(
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + chance.randbytes(2000)
    ),
    "no boundary": lambda chance: _multipart(chance.randbytes(100)),
    "nothing": lambda chance: _multipart(b""),
}


def _print_table(tally: Tally, arguments: argparse.Namespace) -> None:
    third, last = tally.megabytes[len(tally.megabytes) // 3], tally.megabytes[-1]
    p50, p95 = np.percentile(tally.seconds, [50, 95])
    rows = {
        "clients": arguments.num_clients,
        "seconds": f"{tally.elapsed_seconds:.0f}",
        "answers": len(tally.seconds),
        "broken requests": tally.num_broken,
        "wrong answers": len(tally.wrong),
        "s of audio / s": f"{tally.audio_seconds / tally.elapsed_seconds:.1f}",
        "processor s / s of audio": f"{tally.processor_seconds / tally.audio_seconds:.2f}",
        "share of a processor": f"{tally.processor_seconds / tally.elapsed_seconds:.0%}",
        "p50 s": f"{p50:.2f}",
        "p95 s": f"{p95:.2f}",
        "memory MB after a third": f"{third:.0f}",
        "memory MB at the end": f"{last:.0f}",
    }
    print("| " + " | ".join(rows) + " |")
    print("|" + "---|" * len(rows))
    print("| " + " | ".join(map(str, rows.values())) + " |")


if __name__ == "__main__":
    main()
