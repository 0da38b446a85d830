"""The figures of the documents: measured from the bundled model, and written into their places.

    make tables DATA_DIR=... [TEST_CLEAN_DIR=...]
    python benchmarks/tables.py --data_dir DATA_DIR [--test_clean_dir DIR] [--only NAME,...]
    python benchmarks/tables.py --check

A document has a place for a table, and whatever is in it is replaced:

    <!-- table: test-clean -->
    <!-- end of table -->

Below each table stand its data, their number of utterances, seed, commit and weights. Only the tables that the
documents have places for are made, or those of --only; each is also written to NAME.md beside its measurements. A table
that is not complete stays as it was. A run that was stopped goes on when it is started again; another model, other
options of adaptation or other weights of the language model begin anew, in another folder.
"""

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from layer_memory import format_positions
from places import fill, place_pattern

from lact_asr_model.errors import UserError, one_line_errors, print_note, print_warning
from lact_asr_model.evaluation.labels import method_label
from lact_asr_model.evaluation.summary import format_compact_table, format_table, markdown_table, percent_of
from lact_asr_model.files import write_atomically

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "docs/*.md", "lact_asr_model/bundled_model/README.md")
HELD_OUT_NOISES = ("rain", "person_sneeze")
PLACE = place_pattern("table")
WEIGHTS_LENGTH = 12

EVALUATE = "-m lact_asr_model.cli evaluate --num_threads 1 --seed 0 --beam_size 50 --lm bundled"
LAYER_MEMORY = "benchmarks/layer_memory.py --num_threads 1 --seed 0"
IN_RAIN = "--conditions clean,noise:5:rain --noise_dir {held_out_noise}"
UNDER_PROTOCOL = (
    "--max_utterances 20 --conditions protocol --noise_dir {held_out_noise} --impulse_response_dir {data}/rir "
    "--babble_dir {data}/LibriSpeech/dev-mini"
)
# SUTA's rate is the best one on dev-mini (docs/TTT.md)
OF_PROTOCOL = f"{UNDER_PROTOCOL} --methods none,suta:10,suta_lm,ttt:1,ttt:2 --peer_learning_rate 5e-5"
TAUGHT = f"{UNDER_PROTOCOL} --methods none,ttt_fast_weights@lm:2 --ttt_learning_rate 0.05"

OF_MODEL = "--methods {model_methods}"
COMMON_VOICE = "common-voice-delta"
OF_COMMON_VOICE = "--data_dir {data} --subset common-voice-delta/en/test.tsv"

Results = dict[str, Any]  # the content of a results.json


@dataclass(frozen=True)
class Measurement:
    """A command that leaves a `results.json`.

    data: what the line below a table calls its data. hours: expected, on one idle core that recognises 18 s of speech
    in a second; a loss that is taught by a language model takes longer. flags: of the program, with names of folders
    in braces, and of the methods that are the model's own ("model_methods"). program: what Python runs.
    """

    name: str
    data: str
    hours: float
    flags: str
    program: str = EVALUATE

    def arguments(self, values: dict[str, str]) -> list[str]:
        """Of Python, with the values in the places of their names."""
        return [word.format_map(values) for word in f"{self.program} {self.flags}".split()]


@dataclass(frozen=True)
class Table:
    """What is made from the results of some measurements."""

    name: str
    measurements: tuple[str, ...]
    format: Callable[[Sequence[tuple[Measurement, Results]]], str]


# the most important ones first, for they are made in this order
MEASUREMENTS = [
    Measurement("test-mini", "test-mini", 0.15, f"--data_dir {{data}} --subset test-mini {OF_MODEL}"),
    Measurement("test-clean", "LibriSpeech test-clean", 3, f"--data_dir {{test_clean}} --subset test-clean {OF_MODEL}"),
    Measurement("dev-mini", "dev-mini", 0.15, f"--data_dir {{data}} --subset dev-mini {OF_MODEL}"),
    Measurement(COMMON_VOICE, "Common Voice delta", 0.4, f"{OF_COMMON_VOICE} {OF_MODEL}"),
    Measurement("adults", "speechocean762 test, adults", 0.4, f"--subset {{by_age}}/adults.jsonl {OF_MODEL}"),
    Measurement("children", "speechocean762 test, children", 0.4, f"--subset {{by_age}}/children.jsonl {OF_MODEL}"),
    Measurement(
        "cost",
        "test-mini",
        0.2,
        "--data_dir {data} --subset test-mini --max_utterances 20 --methods none,tent,suta:10,ttt:1,ttt:2",
    ),
    Measurement("protocol-test-mini", "test-mini", 4.1, f"--data_dir {{data}} --subset test-mini {OF_PROTOCOL}"),
    Measurement(
        "layer-memory",
        "LibriSpeech test-clean",
        0.4,
        f"--data_dir {{test_clean}} --subset test-clean --max_recordings 40 {IN_RAIN}",
        LAYER_MEMORY,
    ),
    Measurement(f"protocol-{COMMON_VOICE}", "Common Voice delta", 2.3, f"{OF_COMMON_VOICE} {OF_PROTOCOL}"),
    Measurement(
        "layer-memory-test-mini",
        "test-mini",
        0.3,
        f"--data_dir {{data}} --subset test-mini --joined_seconds 0 {IN_RAIN}",
        LAYER_MEMORY,
    ),
    Measurement("taught-test-mini", "test-mini", 0.4, f"--data_dir {{data}} --subset test-mini {TAUGHT}"),
]


def four_figures(measured: Sequence[tuple[Measurement, Results]]) -> str:
    """A row for each data set: greedy and with the language model, plain and adapted."""
    beam_size = measured[0][1]["decoding"]["beam_size"]
    rows = [["WER % (95 %)", "greedy", "greedy, adapted", f"beam {beam_size} + LM", "the same, adapted"]]
    for measurement, results in measured:
        last_method = results["results"][-1]["method"]  # with the number of steps that suits the language model
        wanted = [
            ("results", "none"),
            ("results", "ttt"),
            ("results_of_beam", "none"),
            ("results_of_beam", last_method),
        ]
        found = [next(row for row in results[part] if row["method"] == method) for part, method in wanted]
        rows.append([measurement.data, *map(percent_of("wer"), found)])
    return markdown_table(rows)


def in_both_decodings(format: Callable[[Results, str], str], measured: Sequence[tuple[Measurement, Results]]) -> str:
    """What `format` makes of the results and of a suffix for the names of their parts, greedy and with a beam."""
    ((_, results),) = measured
    with_beam = f"Beam of {results['decoding']['beam_size']} with the language model:"
    return f"Greedy:\n\n{format(results, '')}\n\n{with_beam}\n\n{format(results, '_of_beam')}"


def details(results: Results, suffix: str) -> str:
    return format_table(results[f"results{suffix}"])


def by_condition(results: Results, suffix: str, rate: str) -> str:
    return format_compact_table(results[f"results{suffix}"], results[f"mean_of_shifted{suffix}"], rate)


def mean_of_shifted(measured: Sequence[tuple[Measurement, Results]]) -> str:
    """A row for each method: the mean over all conditions but clean, greedy and with the language model."""
    ((_, results),) = measured
    num_conditions = len({summary["condition"] for summary in results["results"]} - {"clean"})
    changes = ["WER %", "minus none (95 %)", "relative % (95 %)"]
    rows = [[f"mean of {num_conditions} shifted conditions", *changes, "with LM: WER %", *changes[1:], "time / none"]]
    for greedy, beam in zip(results["mean_of_shifted"], results["mean_of_shifted_of_beam"], strict=True):
        cells = [method_label(greedy["method"])]
        for summary in (greedy, beam):
            cells.append(f"{100 * summary['wer']:.1f}")
            cells += [percent_of(f"wer_{name}", sign="+")(summary) for name in ("difference", "relative_change")]
        rows.append([*cells, f"{greedy.get('time_ratio', 1):.1f}"])
    return markdown_table(rows)


def cost(measured: Sequence[tuple[Measurement, Results]]) -> str:
    """A row for each method: its time in plain passes, and its speed."""
    ((_, results),) = measured
    rows = [["", "time in plain passes", "seconds of audio a second, greedy", "with beam and LM"]]
    for greedy, beam in zip(results["results"], results["results_of_beam"], strict=True):
        speeds = (f"{summary['rtfx']:.1f}" for summary in (greedy, beam))
        method = method_label(greedy["method"])
        rows.append([method, f"{greedy.get('time_ratio', 1):.1f}", *speeds])
    return markdown_table(rows)


def layer_memory(measured: Sequence[tuple[Measurement, Results]]) -> str:
    """A row for each state of the memory, two columns for each condition."""
    ((_, results),) = measured
    conditions = list(dict.fromkeys(row["condition"] for row in results["results"]))
    rows = [["memory", *(f"{name}{what}" for name in conditions for what in (", WER % (95 %)", ", minus as it is"))]]
    for state in dict.fromkeys(row["memory"] for row in results["results"]):
        cells = [state]
        for row in results["results"]:
            if row["memory"] == state:
                cells += [percent_of("wer")(row), percent_of("wer_difference", sign="+")(row)]
        rows.append(cells)
    return markdown_table(rows)


def layer_memory_by_position(measured: Sequence[tuple[Measurement, Results]]) -> str:
    """For each condition, a row for every ten seconds of a recording."""
    ((_, results),) = measured
    rows = results["by_position"]
    conditions = dict.fromkeys(row["condition"] for row in rows)
    return "\n\n".join(f"{condition}:\n\n{format_positions(rows, condition)}" for condition in conditions)


OTHER_SETS = ("dev-mini", "test-mini", COMMON_VOICE, "adults", "children")
PROTOCOLS = ("test-mini", COMMON_VOICE)
TABLES = [
    Table("test-clean", ("test-clean",), four_figures),
    Table("other-sets", OTHER_SETS, four_figures),
    *(Table(f"{name}-details", (name,), partial(in_both_decodings, details)) for name in ("test-clean", *OTHER_SETS)),
    *(Table(f"shifted-{name}", (f"protocol-{name}",), mean_of_shifted) for name in PROTOCOLS),
    *(
        Table(
            f"protocol-{name}-{rate}",
            (f"protocol-{name}",),
            partial(in_both_decodings, partial(by_condition, rate=rate)),
        )
        for name in PROTOCOLS
        for rate in ("wer", "cer")
    ),
    Table("shifted-taught-test-mini", ("taught-test-mini",), mean_of_shifted),
    Table("taught-test-mini-wer", ("taught-test-mini",), partial(in_both_decodings, partial(by_condition, rate="wer"))),
    *(Table(name, (name,), layer_memory) for name in ("layer-memory", "layer-memory-test-mini")),
    Table("layer-memory-by-position", ("layer-memory",), layer_memory_by_position),
    Table("cost", ("cost",), cost),
]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        documents = arguments.documents or [path for name in DOCUMENTS for path in sorted(REPOSITORY.glob(name))]
        if arguments.check:
            raise SystemExit(not check(documents, describe_model(arguments.checkpoint).weights))
        raise SystemExit(not make(arguments, documents))


def _parser() -> argparse.ArgumentParser:
    hours = {measurement.name: measurement.hours for measurement in MEASUREMENTS}
    needed = [f"  {table.name}: {', '.join(table.measurements)}" for table in TABLES]
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Measurements, in their order, with the hours to expect on one idle core ({sum(hours.values()):.1f} in "
        f"all):\n{chr(10).join(f'  {name}: {value:g}' for name, value in hours.items())}\n\n"
        f"Tables, with their measurements:\n{chr(10).join(needed)}",
    )
    parser.add_argument("--data_dir", type=Path, help="DATA_DIR of recipes/small/README.md")
    parser.add_argument("--test_clean_dir", type=Path, help="folder that holds LibriSpeech's test-clean")
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled model")
    parser.add_argument(
        "--documents", type=Path, nargs="+", help=f"files to write into (default: {', '.join(DOCUMENTS)})"
    )
    parser.add_argument("--output_dir", type=Path, default=REPOSITORY / "results/tables", help="keeps measurements")
    parser.add_argument("--only", metavar="NAME,...", help="only these tables")
    parser.add_argument(
        "--max_utterances",
        type=int,
        help="a trial: only so many, and no document is written unless --documents names it",
    )
    parser.add_argument("--check", action="store_true", help="say which tables are of other weights; 1 if any is")
    return parser


def check(documents: Sequence[Path], weights: str) -> bool:
    """Print which places hold what was not measured with these weights; returns whether there is none."""
    places = [(document, match) for document in documents for match in _places(document)]
    is_well = True
    for document, match in places:
        found = re.search(r"; weights (\w+)", match["content"])
        if found is None or found[1] != weights[:WEIGHTS_LENGTH]:
            is_well = False
            print(f"{document}: {match['name']}: of {f'weights {found[1]}' if found else 'unknown weights'}")
    print(f"{len(places)} tables; the weights are {weights[:WEIGHTS_LENGTH]}")
    return is_well


def make(arguments: argparse.Namespace, documents: Sequence[Path]) -> bool:
    """Measure what the tables need, and write each as soon as it is complete; returns whether nothing failed."""
    wanted = _wanted_tables(arguments.only, documents)
    if arguments.data_dir is None:
        raise UserError("--data_dir: is missing; give DATA_DIR of recipes/small/README.md")
    if arguments.max_utterances is not None and arguments.documents is None:
        documents = []  # a trial
    model = describe_model(arguments.checkpoint)
    output_dir = arguments.output_dir.resolve() / model.state
    folders = _prepare_folders(arguments, output_dir)
    values = {name: str(folder) for name, folder in folders.items()} | {"model_methods": model.methods}
    extra = ["--checkpoint", str(arguments.checkpoint.resolve())] if arguments.checkpoint else []
    complete: dict[str, Results] = {}
    failed = []
    for measurement in MEASUREMENTS:
        if not any(measurement.name in table.measurements for table in wanted):
            continue
        if "{test_clean}" in measurement.flags and "test_clean" not in values:
            print_note(f"{measurement.name}: left out, as it needs --test_clean_dir")
            continue
        results = measure(measurement, values, output_dir / measurement.name, arguments.max_utterances, extra)
        if results is None:
            failed.append(measurement.name)
            continue
        if results["weights_sha256"] != model.weights:
            raise UserError(f"{measurement.name}: the model has been replaced meanwhile; start this again")
        complete[measurement.name] = results
        for table in wanted:
            if measurement.name in table.measurements and complete.keys() >= set(table.measurements):
                measured = [(each, complete[each.name]) for each in MEASUREMENTS if each.name in table.measurements]
                text = f"{table.format(measured)}\n\n{origin(measured, model.weights)}\n"
                write_atomically(output_dir / f"{table.name}.md", text)
                fill(documents, table.name, text)
                print(f"\n{table.name}:\n\n{text}", flush=True)
    if failed:
        print_warning(f"not measured: {', '.join(failed)}; tables that need them stay as they were")
    return not failed


@dataclass(frozen=True)
class ModelDescription:
    """What the measurements depend on.

    weights: their checksum. methods: as the model is, and adapted, with the steps that it takes greedily and those
    before a language model. state: a name for weights, options of adaptation and weights of the language model.
    """

    weights: str
    methods: str
    state: str


def describe_model(checkpoint: Path | None) -> ModelDescription:
    """Raises UserError: there is no such model."""
    from lact_asr_model.acoustic_models.loading import load
    from lact_asr_model.commands.options import checkpoint_dir
    from lact_asr_model.decoding.tuned_weights import FILE_NAME
    from lact_asr_model.evaluation.comparison import weights_digest

    model = load(checkpoint)
    options = model.default_options
    steps_with_lm = options.before_language_model().steps
    methods = "none,ttt" if steps_with_lm == options.steps else f"none,ttt,ttt:{steps_with_lm}"
    of_lm = checkpoint_dir(None if checkpoint is None else str(checkpoint)) / FILE_NAME
    weights = weights_digest(model.model)
    settings = [weights, asdict(options), of_lm.read_text() if of_lm.is_file() else ""]
    return ModelDescription(
        weights, methods, hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:WEIGHTS_LENGTH]
    )


def measure(
    measurement: Measurement,
    values: dict[str, str],
    output_dir: Path,
    max_utterances: int | None = None,
    extra: Sequence[str] = (),
) -> Results | None:
    """The results of a measurement, which is made if that has not been done; None = it could not be."""
    command = [*measurement.arguments(values), *extra]
    told = measurement.flags
    if max_utterances is not None:
        limit = "--max_recordings" if "--max_recordings" in command else "--max_utterances"
        command += [limit, str(max_utterances)]
        told += f" {limit} {max_utterances}"
    done, results_path = output_dir / "complete.json", output_dir / "results.json"
    if not (done.is_file() and json.loads(done.read_text())["command"] == told):
        command += ["--output_dir", str(output_dir)]
        print(f"\n{measurement.name} (about {measurement.hours:g} h): {shlex.join(command)}", flush=True)
        status = subprocess.run([sys.executable, *command], cwd=REPOSITORY, stdout=subprocess.DEVNULL).returncode
        if status in (130, 143):
            raise KeyboardInterrupt
        if status != 0:
            return None
        commit = _commit(json.loads(results_path.read_text())["commit"])
        write_atomically(done, json.dumps({"command": told, "commit": commit}) + "\n")
    return json.loads(results_path.read_text()) | {"commit": json.loads(done.read_text())["commit"]}


def origin(measured: Sequence[tuple[Measurement, Results]], weights: str) -> str:
    """The line below a table: what `--check` looks for, and what a reader wants to know."""
    sets = []
    for measurement, results in measured:
        conditions = {summary["condition"] for summary in results["results"]}
        under = f" under each of {len(conditions)} conditions" if len(conditions) > 1 else ""
        first = results["results"][0]
        num_recordings = first.get("num_recordings", first["num_utterances"])
        joined = f" in {num_recordings} recordings" if num_recordings != first["num_utterances"] else ""
        sets.append(f"{measurement.data}: {first['num_utterances']} utterances{joined}{under}")
    commits = dict.fromkeys(results["commit"] for _, results in measured)
    hardware = dict.fromkeys(f"{results['num_threads']} thread of {results['hardware']}" for _, results in measured)
    seeds = dict.fromkeys(str(results["seed"]) for _, results in measured)
    return (
        f"{'; '.join(sets)}; seed {', '.join(seeds)}; commit {', '.join(commits)}; "
        f"weights {weights[:WEIGHTS_LENGTH]}; {', '.join(hardware)}."
    )


def _places(document: Path) -> list[re.Match[str]]:
    """The places of a document. Raises UserError where one is not closed, or of no table that there is."""
    content = document.read_text(encoding="utf-8")
    places = list(PLACE.finditer(content))
    if len(places) != len(re.findall("^<!-- table: ", content, re.MULTILINE)):
        raise UserError(f"{document}: a place of a table is not closed; add <!-- end of table --> on a line of its own")
    for match in places:
        _table(match["name"], str(document))
    return places


def _table(name: str, where: str) -> Table:
    table = next((table for table in TABLES if table.name == name), None)
    if table is None:
        raise UserError(f"{where}: there is no table '{name}'; choose from {', '.join(each.name for each in TABLES)}")
    return table


def _wanted_tables(only: str | None, documents: Sequence[Path]) -> list[Table]:
    names = {match["name"] for document in documents for match in _places(document)}
    if only is not None:
        names = {_table(name.strip(), "--only").name for name in only.split(",")}
    return [table for table in TABLES if table.name in names]


def _prepare_folders(arguments: argparse.Namespace, output_dir: Path) -> dict[str, Path]:
    """The folders that commands name, of which two are made here: test speakers by age, and the held-out noises."""
    data_dir = arguments.data_dir.resolve()
    folders = {"data": data_dir, "by_age": output_dir / "by_age", "held_out_noise": output_dir / "held_out_noise"}
    if arguments.test_clean_dir is not None:
        folders["test_clean"] = arguments.test_clean_dir.resolve()
    manifest = data_dir / "speechocean762/test.jsonl"
    missing = [
        path for path in (manifest, *(data_dir / "noise" / name for name in HELD_OUT_NOISES)) if not path.exists()
    ]
    if missing:
        raise UserError(f"{missing[0]}: is not there; recipes/small/README.md says where it comes from")
    split = [sys.executable, REPOSITORY / "recipes/small/split_by_age.py", manifest, folders["by_age"]]
    subprocess.run(split, check=True, stdout=subprocess.DEVNULL)
    for name in HELD_OUT_NOISES:
        shutil.copytree(data_dir / "noise" / name, folders["held_out_noise"] / name, dirs_exist_ok=True)
    return folders


def _commit(told: str | None) -> str:
    """The commit that a measurement tells, short; documents that differ from it do not count."""
    if told is None:
        return "unknown"
    changed = subprocess.run(
        ["git", "diff", "--name-only", "HEAD", "--", ".", ":!*.md"], cwd=REPOSITORY, capture_output=True, text=True
    )
    return told[:7] + ("-dirty" if "-dirty" in told and changed.stdout else "")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
