import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import Wav2Vec2Config, Wav2Vec2Model

from lact_asr_model.checkpoint_io import load_best_model, load_checkpoint, save_best_model
from lact_asr_model.commands.train import main
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.training import adapted_step
from lact_asr_model.training import trainer as trainer_module
from lact_asr_model.training.arguments import TrainingArguments
from lact_asr_model.training.checkpoint import TrainingState
from lact_asr_model.training.interruption import StopRequest
from lact_asr_model.training.loading import Batch
from lact_asr_model.training.trainer import Trainer, train

Make = Callable[..., TrainingArguments]
MakeConfig = Callable[..., Path]

REPOSITORY = Path(__file__).parents[2]
RECORDINGS = REPOSITORY / "lact_asr_model" / "bundled_recordings"
NOTHING_RANDOM = {
    **{"hidden_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0},
    **{"layerdrop": 0.0, "mask_prob": 0.0},
}
NO_LEARNING = 1e-30  # a learning rate that leaves float32 weights as they are


def state_of(arguments: TrainingArguments) -> dict[str, Any]:
    """The saved state, with what a validation after it has changed."""
    state = torch.load(arguments.output_dir / "training_state.pt", weights_only=True)
    progress_path = arguments.output_dir / "training_progress.json"
    if progress_path.exists():
        state["progress"] = json.loads(progress_path.read_text())
    return state


def assert_same_state(first: TrainingArguments, second: TrainingArguments) -> None:
    """Weights, optimisers, averages and random numbers, bit for bit."""
    expected, actual = state_of(first), state_of(second)
    for progress in (expected["progress"], actual["progress"]):  # console lines average what one process has seen
        progress["history"] = [record for record in progress["history"] if "validation" in record]
    for name in ("model", "optimizers", "average", "random_states", "progress"):
        assert is_identical(actual[name], expected[name]), name


def is_identical(first: Any, second: Any) -> bool:
    """Equal values in the same nesting; tensors bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(is_identical(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(is_identical, first, second))
    return bool(first == second)


def losses(results: dict[str, Any]) -> list[float]:
    return [record["loss"] for record in results["history"] if "loss" in record]


def command_line(arguments: TrainingArguments) -> list[str]:
    """The flags that say the same as `arguments`."""
    defaults, flags = vars(TrainingArguments()), []
    for name, value in vars(arguments).items():
        if value is True:
            flags.append(f"--{name}")
        elif value != defaults[name]:
            flags += [f"--{name}", str(value)]
    return flags


def start(*command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path) -> None:
    deadline_seconds = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline_seconds, f"{path} was never written"
        time.sleep(0.005)


def test_writes_everything_that_is_promised(make_arguments: Make, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = make_arguments(test_subset="test-tiny", eval_every=2, enable_ttt=True)
    results = train(arguments)

    folder = arguments.output_dir
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    assert results["stop_reason"] == "max_steps"
    assert results["step"] == 4
    assert results["validation"]["num_utterances"] == 3
    assert results["test"]["words"]["reference_length"] == 4
    transcripts = [json.loads(line) for line in (folder / "test_results.jsonl").read_text().splitlines()]
    assert [transcript["ref"] for transcript in transcripts] == ["A BEE", "DEAD CAB"]
    assert set(transcripts[0]) == {"id", "ref", "hyp", "duration"}
    log = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert {"train/loss", "train/lr", "train/encoder_lr", "train/grad_norm"} <= set(log.Tags()["scalars"])
    assert {"validation/wer", "memory_norm/block_0", "memory_norm/block_1"} <= set(log.Tags()["scalars"])
    assert log.Tags()["images"] == ["validation/spectrogram"]
    assert len([tag for tag in log.Tags()["tensors"] if tag.startswith("transcript/")]) == 3

    from_file, vocabulary = load_best_model(folder / "best_model.pt")
    from_folder, processor = load_checkpoint(folder / "best_model")
    assert vocabulary == processor.tokenizer.get_vocab()
    assert from_file.config.enable_ttt
    assert is_identical(from_file.state_dict(), from_folder.state_dict())
    assert "train-tiny" in (folder / "best_model" / "README.md").read_text()

    printed = capsys.readouterr().out
    assert "7 utterances" in printed
    assert "step 4/4  epoch 2.00  loss" in printed
    assert "validation at step 2: loss" in printed


@pytest.fixture
def other_precision() -> Iterator[None]:
    """Accelerate keeps the precision of its first use for the life of the process."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.mark.usefixtures("other_precision")
@pytest.mark.parametrize(("has_bfloat16", "announced"), [(True, "on cpu, bf16;"), (False, "on cpu, float32;")])
def test_mixed_precision_on_a_cpu_that_has_it(
    make_arguments: Make,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    has_bfloat16: bool,
    announced: str,
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": has_bfloat16, "avx2": True})
    results = train(make_arguments(mixed_precision=True))
    printed = capsys.readouterr().out
    assert announced in printed
    assert ("--mixed_precision: ignored" in printed) is not has_bfloat16
    assert all(math.isfinite(loss) for loss in losses(results))


def test_the_loss_falls_with_either_optimizer(make_arguments: Make) -> None:
    for optimizer in ("adamw", "muon"):
        options = {"optimizer": optimizer, "max_steps": 20, "peak_lr": 5e-3, "batch_size": 7}
        results = train(make_arguments(output_dir=make_arguments().output_dir / optimizer, **options))
        first, *_, last = losses(results)
        assert last < 0.7 * first


def test_accumulated_batches_are_one_large_batch(make_arguments: Make, make_config: MakeConfig) -> None:
    config_path = make_config(**NOTHING_RANDOM)
    together, accumulated = (
        train(make_arguments(config_path=config_path, output_dir=make_arguments().output_dir / str(size), **sizes))
        for size, sizes in {
            7: {"batch_size": 7},
            3: {"batch_size": 3, "gradient_accumulation_steps": 3},  # 3 + 3 + 1 utterances: an uneven mean
        }.items()
    )
    assert losses(accumulated) == pytest.approx(losses(together), rel=1e-4)
    assert losses(together)[-1] != pytest.approx(losses(together)[0], rel=1e-2)


def test_how_the_audio_is_loaded_changes_nothing(make_arguments: Make, tmp_path: Path) -> None:
    here, in_worker = (
        train(make_arguments(num_workers=workers, output_dir=tmp_path / str(workers), augment=True, max_steps=6))
        for workers in (0, 1)
    )
    assert losses(in_worker) == losses(here)


def test_training_goes_through_adaptation_in_its_share_of_the_steps(
    make_arguments: Make, make_config: MakeConfig, tmp_path: Path
) -> None:
    """The first of two steps is plain with a share of a half, and a step size of 0 adapts to nothing."""
    adapting = NOTHING_RANDOM | {"ttt_loss_type": "entropy", "ttt_learning_rate": 0.2}
    found = {}
    for name, config, options in (
        ("plain", adapting, {}),
        ("whole", adapting, {"enable_ttt": True}),
        ("exact", adapting, {"enable_ttt": True, "ttt_gradient": "exact"}),
        ("half", adapting, {"enable_ttt": True, "ttt_share": 0.5}),
        ("still", adapting | {"ttt_learning_rate": 0.0}, {"enable_ttt": True}),
    ):
        arguments = make_arguments(
            config_path=make_config(**config), output_dir=tmp_path / name, max_steps=2, peak_lr=2e-3, **options
        )
        found[name] = losses(train(arguments)), state_of(arguments)["model"]
    (plain, plain_state), (whole, whole_state), (exact, exact_state), (half, _), (still, still_state) = found.values()
    assert whole[0] == pytest.approx(exact[0], rel=1e-5)
    assert whole[0] != pytest.approx(plain[0], rel=1e-3)
    assert half[0] == plain[0] and half[1] != pytest.approx(plain[1], rel=1e-3)
    assert still == pytest.approx(plain, rel=1e-5)
    for state, are_learned in ((plain_state, False), (still_state, False), (whole_state, True), (exact_state, True)):
        assert bool(state["fast_weight_log_step_scales"].any()) == are_learned
        assert not state["front_end_log_step_scales"].any()  # the configuration adapts the fast weights
    assert not is_identical(whole_state, exact_state)


@pytest.mark.parametrize("is_exact", [False, True])
def test_a_step_of_adaptation_runs_without_dropout_and_restores_a_mixture_of_modes(
    tiny_model: HybridASRForCTC, is_exact: bool
) -> None:
    tiny_model.layers[1].train()
    before = [module.training for module in tiny_model.modules()]
    assert any(before) and not all(before)
    with pytest.raises(KeyboardInterrupt), adapted_step._adapting(tiny_model, is_exact):
        assert {module for module in tiny_model.modules() if module.training} == set(tiny_model.layers)
        raise KeyboardInterrupt
    assert [module.training for module in tiny_model.modules()] == before


@pytest.mark.parametrize("ttt_options", [{}, {"enable_ttt": True}, {"enable_ttt": True, "ttt_share": 0.5}])
def test_two_processes_are_one_with_the_same_global_batch(
    make_arguments: Make, make_config: MakeConfig, tmp_path: Path, ttt_options: dict[str, Any]
) -> None:
    config_path = make_config(**NOTHING_RANDOM, ttt_parameters="both", ttt_loss_type="entropy_mcc")
    options = {"max_steps": 5, "eval_every": 5, "peak_lr": 2e-3, "config_path": config_path, **ttt_options}
    alone = train(make_arguments(batch_size=7, output_dir=tmp_path / "one", **options))
    arguments = make_arguments(batch_size=4, output_dir=tmp_path / "two", **options)  # 4 and 3 utterances
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    process = start(*torchrun, str(REPOSITORY / "training" / "train_hybrid_asr.py"), *command_line(arguments))
    printed, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert printed.count("step 5/5") == 1

    shared = json.loads((arguments.output_dir / "results.json").read_text())
    assert shared["num_processes"] == 2
    assert losses(shared) == pytest.approx(losses(alone), rel=1e-4)
    assert shared["validation"]["loss"] == pytest.approx(alone["validation"]["loss"], rel=1e-3)
    assert shared["validation"]["words"]["reference_length"] == 5


def test_killed_and_resumed_training_reaches_the_same_weights(make_arguments: Make, tmp_path: Path) -> None:
    options = {
        **{"batch_size": 2, "gradient_accumulation_steps": 3, "max_steps": 24, "eval_every": 7, "log_every": 5},
        **{"ema_decay": 0.9, "augment": True, "optimizer": "muon"},
    }
    unbroken = make_arguments(output_dir=tmp_path / "unbroken", **options)
    train(unbroken)

    killed = make_arguments(output_dir=tmp_path / "killed", resume=True, **options)
    process = start("-m", "lact_asr_model.cli", "train", *command_line(killed))
    wait_for(killed.output_dir / "training_state.pt")
    time.sleep(0.2)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 0 < state_of(killed)["progress"]["step"] < 24

    assert train(killed)["step"] == 24
    assert_same_state(unbroken, killed)
    best_models = [load_best_model(a.output_dir / "best_model.pt")[0].state_dict() for a in (unbroken, killed)]
    assert is_identical(*best_models)


def test_ctrl_c_saves_and_stops_with_130_and_training_goes_on(
    make_arguments: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"max_steps": 40, "eval_every": 10, "log_every": 10}
    unbroken = make_arguments(output_dir=tmp_path / "unbroken", **options)
    train(unbroken)

    interrupted = make_arguments(output_dir=tmp_path / "interrupted", resume=True, **options)

    def press_ctrl_c() -> None:
        wait_for(interrupted.output_dir / "training_state.pt")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press_ctrl_c)
    thread.start()
    with pytest.raises(SystemExit) as exit_info:
        main(command_line(interrupted))
    thread.join()
    assert exit_info.value.code == 130
    assert "SIGINT: state saved at step" in capsys.readouterr().out.splitlines()[-1]
    assert 10 <= state_of(interrupted)["progress"]["step"] < 40

    main(command_line(interrupted))
    assert_same_state(unbroken, interrupted)


def test_a_sigterm_to_the_whole_process_group_saves_and_stops_with_143(make_arguments: Make) -> None:
    arguments = make_arguments(max_steps=100_000, eval_every=5, num_workers=1)
    process = start("-m", "lact_asr_model.cli", "train", *command_line(arguments))
    wait_for(arguments.output_dir / "training_state.pt")
    os.killpg(process.pid, signal.SIGTERM)  # as torchrun and batch schedulers do
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, errors
    last_line = printed.splitlines()[-1]
    assert last_line.startswith(f"SIGTERM: state saved at step {state_of(arguments)['progress']['step']};")


@pytest.mark.parametrize(
    "error", [RuntimeError("DataLoader worker (pid(s) 1) exited unexpectedly"), FileNotFoundError(), EOFError()]
)
def test_a_sigterm_that_takes_the_loading_processes_along_still_saves(
    make_arguments: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    train(make_arguments(output_dir=tmp_path / "unbroken"))
    arguments = make_arguments(output_dir=tmp_path / "stopped")

    def loses_its_workers(loader: Iterable[Batch]) -> Iterator[Batch]:
        yield next(iter(loader))
        os.kill(os.getpid(), signal.SIGTERM)
        raise error

    with monkeypatch.context() as context:
        context.setattr(trainer_module, "read_batches", loses_its_workers)
        assert train(arguments) == {"stop_reason": "SIGTERM", "step": 1}
    train(make_arguments(output_dir=tmp_path / "stopped", resume=True))
    assert_same_state(make_arguments(output_dir=tmp_path / "unbroken"), arguments)


def test_a_time_limit_still_leaves_a_model_and_can_be_lifted(make_arguments: Make, tmp_path: Path) -> None:
    train(make_arguments(output_dir=tmp_path / "unlimited"))
    limited = make_arguments(output_dir=tmp_path / "limited", max_minutes=1e-6)
    assert train(limited)["stop_reason"] == "max_minutes"
    load_best_model(limited.output_dir / "best_model.pt")
    results = train(make_arguments(output_dir=tmp_path / "limited", resume=True))
    assert results["stop_reason"] == "max_steps"
    first, second = (state_of(make_arguments(output_dir=tmp_path / name))["model"] for name in ("unlimited", "limited"))
    assert is_identical(first, second)


def spoil_later(trainer: Trainer, names: set[str]) -> None:
    """Make recordings unreadable after they were looked at."""
    for utterance in trainer.dataset.utterances + trainer.val_utterances:
        if utterance.id in names:
            utterance.audio_path.write_bytes(b"RIFF not really")


@pytest.fixture
def own_data(librispeech_dir: Path, tmp_path: Path) -> Path:
    """A copy of the data that a test may spoil."""
    return shutil.copytree(librispeech_dir, tmp_path / "own_data")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_recordings_that_break_later_are_skipped_named_once_and_counted(
    make_arguments: Make, own_data: Path, num_workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"batch_size": 1, "gradient_accumulation_steps": 2, "max_steps": None, "max_epochs": 2, "eval_every": 2}
    trainer = Trainer(make_arguments(data_dir=own_data, num_workers=num_workers, **options), StopRequest(None))
    spoil_later(trainer, {"1-10-0001", "1-10-0004", "2-10-0002"})
    results = trainer.run()
    trainer.close()
    assert results["step"] == 8  # every step is taken, also those with an empty batch
    assert all(math.isfinite(loss) for loss in losses(results))
    assert sorted(results["skipped"]) == ["1-10-0001", "1-10-0004", "2-10-0002"]
    assert results["validation"]["num_utterances"] == 2
    printed = capsys.readouterr().out
    for name in results["skipped"]:
        assert printed.count(f"skipped {name}: ") == 1


def test_a_skipped_recording_leaves_the_step_to_the_others(
    make_arguments: Make, make_config: MakeConfig, own_data: Path, tmp_path: Path
) -> None:
    """Without it in one batch of all utterances, or without it in the data: the same steps."""
    options = {"config_path": make_config(**NOTHING_RANDOM), "max_steps": 2, "peak_lr": 2e-3}
    kinds = {"one": {"batch_size": 7}, "two": {"batch_size": 1, "gradient_accumulation_steps": 7}}
    spoiled = {}
    for name, sizes in kinds.items():
        data_dir = shutil.copytree(own_data, tmp_path / f"data-{name}")
        trainer = Trainer(
            make_arguments(data_dir=data_dir, output_dir=tmp_path / name, **sizes, **options), StopRequest(None)
        )
        spoil_later(trainer, {"1-10-0003"})
        spoiled[name] = losses(trainer.run())
        trainer.close()
    chapter = own_data / "LibriSpeech" / "train-tiny" / "1" / "10"
    lines = (chapter / "1-10.trans.txt").read_text().splitlines(keepends=True)
    (chapter / "1-10.trans.txt").write_text("".join(line for line in lines if "0003" not in line))
    without = losses(
        train(make_arguments(data_dir=own_data, output_dir=tmp_path / "without", **kinds["one"], **options))
    )
    assert spoiled["one"] == pytest.approx(without, rel=1e-4)
    assert spoiled["two"] == pytest.approx(without, rel=1e-4)


def test_processes_take_the_same_steps_when_one_of_them_finds_nothing_to_read(
    make_arguments: Make, own_data: Path, tmp_path: Path
) -> None:
    """Every file of one batch is spoiled; the look at the data, whose memory is kept, does not see it."""
    arguments = make_arguments(data_dir=own_data, batch_size=1, max_steps=8, eval_every=8)
    Trainer(arguments, StopRequest(None)).close()
    audio_paths = sorted((own_data / "LibriSpeech" / "train-tiny").rglob("1-10-000[0-5].*"))
    for path in audio_paths[:5]:
        status = path.stat()
        path.write_bytes(b"RIFF not really".ljust(status.st_size, b"\0"))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    process = start(*torchrun, str(REPOSITORY / "training" / "train_hybrid_asr.py"), *command_line(arguments))
    printed, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    results = json.loads((arguments.output_dir / "results.json").read_text())
    assert results["step"] == 8
    assert len(results["skipped"]) == 5
    assert printed.count("skipped ") == 5


def test_the_state_is_saved_before_validation_and_an_interrupted_one_is_made_up_for(
    make_arguments: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"max_steps": 6, "eval_every": 2, "early_stop_patience": 3}
    unbroken = make_arguments(output_dir=tmp_path / "unbroken", **options)
    train(unbroken)
    broken = make_arguments(output_dir=tmp_path / "broken", resume=True, **options)
    with monkeypatch.context() as context:
        context.setattr(trainer_module, "validate", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(broken)
    assert state_of(broken)["progress"]["step"] == 2
    assert state_of(broken)["progress"]["validated_step"] == -1
    train(broken)
    assert_same_state(unbroken, broken)


def test_a_validation_does_not_write_the_weights_again(make_arguments: Make) -> None:
    arguments = make_arguments(max_steps=2, eval_every=2)
    train(arguments)
    written_ns = (arguments.output_dir / "training_state.pt").stat().st_mtime_ns
    assert (arguments.output_dir / "best_model.pt").stat().st_mtime_ns > written_ns
    assert state_of(arguments)["progress"]["validated_step"] == 2
    assert train(make_arguments(max_steps=2, eval_every=2, resume=True))["step"] == 2


@pytest.mark.parametrize("by_seconds", [False, True])
def test_a_smaller_batch_with_more_accumulation_goes_on_with_the_same_training(
    make_arguments: Make, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_seconds: bool
) -> None:
    """Stopped inside an epoch, twice: the steps are those of an unchanged training."""
    options = {"config_path": make_config(**NOTHING_RANDOM), "peak_lr": 2e-3, "max_steps": 12}
    name, large, small = ("batch_seconds", 3.0, 1.5) if by_seconds else ("batch_size", 2, 1)
    before = {name: large, "gradient_accumulation_steps": 1, **options}
    after = {name: small, "gradient_accumulation_steps": 2, **options}
    unchanged = make_arguments(output_dir=tmp_path / "unchanged", **before)
    expected = train(unchanged)

    def train_until(step: int, sizes: dict[str, Any]) -> None:
        with monkeypatch.context() as context:
            interrupt = lambda trainer: "SIGTERM" if trainer.state.progress.step == step else None  # noqa: E731
            context.setattr(Trainer, "_interruption", interrupt)
            assert train(make_arguments(output_dir=tmp_path / "changed", resume=True, **sizes))["step"] == step

    train_until(5, before)
    train_until(7, after)
    assert state_of(make_arguments(output_dir=tmp_path / "changed"))["progress"]["batches_in_epoch"] > 0
    changed = train(make_arguments(output_dir=tmp_path / "changed", resume=True, **before))
    assert losses(changed) == pytest.approx(losses(expected), rel=1e-3)
    assert len(set(losses(expected))) == 12
    weights = [state_of(make_arguments(output_dir=tmp_path / kind))["model"] for kind in ("unchanged", "changed")]
    for tensor_name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][tensor_name], tensor, rtol=0, atol=1e-3)

    wrong = {**after, "gradient_accumulation_steps": 3}
    with pytest.raises(UserError) as error:
        train(make_arguments(output_dir=tmp_path / "changed", resume=True, **wrong))
    assert f"a step of this training has {large:g} = --{name} {large:g} x" in str(error.value)
    assert f"not {3 * small:g} = --{name} {small:g} x --gradient_accumulation_steps 3 x 1 proc" in str(error.value)


def test_states_from_before_plans_and_new_options_go_on(make_arguments: Make) -> None:
    arguments = make_arguments(batch_size=2, gradient_accumulation_steps=2, max_steps=2)
    train(arguments)
    path = arguments.output_dir / "training_state.pt"
    state = torch.load(path, weights_only=True)
    identity = state["identity"]
    del state["progress"]["plan"], state["progress"]["skipped"]
    for name in ("--normalize", "--join_share", "intermediate_ctc_layers"):
        del identity[name]
    identity |= {
        "--batch_size": 2,
        "--batch_seconds": None,
        "--gradient_accumulation_steps": 2,
        "number of processes": 1,
    }
    torch.save(state, path)
    (arguments.output_dir / "training_progress.json").unlink()
    sizes = {"batch_size": 4, "gradient_accumulation_steps": 1}
    assert train(make_arguments(max_steps=3, resume=True, **sizes))["step"] == 3
    with pytest.raises(UserError, match=r"started with --join_share = 0.0, not 0.5"):
        torch.save(state, path)
        train(make_arguments(max_steps=4, resume=True, join_share=0.5, **sizes))


def test_a_checkpoint_that_adapts_is_chosen_and_tested_with_adaptation(
    make_arguments: Make, make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"ttt_loss_type": "entropy", "ttt_learning_rate": 0.5, "ttt_steps": 2}
    options = {"config_path": make_config(**config), "peak_lr": NO_LEARNING, "test_subset": "test-tiny", "max_steps": 2}
    plain = train(make_arguments(output_dir=tmp_path / "plain", **options))
    printed = capsys.readouterr().out
    assert not plain["validation"]["is_adapted"] and "with adaptation" not in printed
    adapted = train(make_arguments(output_dir=tmp_path / "adapted", enable_ttt=True, **options))
    printed = capsys.readouterr().out
    assert adapted["validation"]["is_adapted"] and adapted["test"]["is_adapted"]
    assert printed.count("with adaptation") == 2
    for name in ("validation", "test"):
        assert abs(adapted[name]["loss"] - plain[name]["loss"]) > 1e-3


def test_letters_and_words_that_get_lost_are_told_before_the_first_step(
    make_arguments: Make, own_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_arguments(output_dir=tmp_path / "base", train_subset="test-tiny", max_steps=2)  # which has no F
    train(base)
    transcript = own_data / "LibriSpeech" / "train-tiny" / "1" / "10" / "1-10.trans.txt"
    transcript.write_text(transcript.read_text().replace("A CAB", "A CAB FOR 50 %"))
    capsys.readouterr()
    options = {"init_from": base.output_dir / "best_model", "config_path": None, "data_dir": own_data, "max_steps": 2}
    train(make_arguments(output_dir=tmp_path / "tuned", **options))
    lines = capsys.readouterr().out.splitlines()
    first_step = next(number for number, line in enumerate(lines) if line.startswith("step 1/"))
    (lost,) = [line for line in lines[:first_step] if "lose digits" in line]
    assert lost.startswith("--train_subset train-tiny: 2 words in 1 of 7 transcripts") and "'50', '%'" in lost
    (unknown,) = [line for line in lines[:first_step] if "vocabulary of the model" in line]
    assert "does not have F (5)" in unknown


def test_normalize_spells_the_transcripts_out(make_arguments: Make, own_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("inflect", reason="the normalize extra is not installed")
    transcript = own_data / "LibriSpeech" / "dev-tiny" / "2" / "10" / "2-10.trans.txt"
    transcript.write_text(transcript.read_text().replace("A FACE", "2 CATS & 1"))
    arguments = make_arguments(data_dir=own_data, normalize=True, test_subset="dev-tiny", max_steps=2)
    train(arguments)
    lines = (arguments.output_dir / "test_results.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["ref"] == "TWO CATS AND ONE"


def test_another_training_in_the_same_folder_is_refused(make_arguments: Make) -> None:
    train(make_arguments())
    with pytest.raises(UserError, match=r"--output_dir .*out: holds a training already; add --resume"):
        train(make_arguments())
    with pytest.raises(UserError, match=r"started with --seed = 0, not 3; "):
        train(make_arguments(resume=True, seed=3))
    assert train(make_arguments(resume=True, max_steps=6))["step"] == 6


def test_stops_early_when_nothing_improves(make_arguments: Make) -> None:
    results = train(make_arguments(max_steps=50, eval_every=2, early_stop_patience=3, peak_lr=NO_LEARNING))
    assert results["stop_reason"] == "early_stop"
    assert results["step"] == 2 * (1 + 3)
    assert results["validation"]["step"] == 2


def test_a_loss_that_is_not_finite_halts_before_the_step(
    make_arguments: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = make_arguments(eval_every=2, max_steps=10, batch_size=2, gradient_accumulation_steps=2)
    real_ctc_loss, calls = F.ctc_loss, []

    def breaks_in_the_third_step(log_probs: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        calls.append(log_probs.requires_grad)
        loss = real_ctc_loss(log_probs, *args, **options)
        return loss * float("nan") if sum(calls) == 6 and log_probs.requires_grad else loss

    monkeypatch.setattr(F, "ctc_loss", breaks_in_the_third_step)
    with pytest.raises(SystemExit) as exit_info:
        main(command_line(arguments))
    assert exit_info.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: step 3: the loss is not finite, with the utterances 1-10-")
    assert message.count("1-10-") == 2  # the broken batch, not the good one beside it
    assert state_of(arguments)["progress"]["step"] == 2
    assert all(weight.isfinite().all() for weight in state_of(arguments)["model"].values())


def test_a_gradient_that_is_not_finite_halts_too(make_arguments: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args, **options: torch.tensor(float("inf")))
    with pytest.raises(UserError, match="step 1: the gradient is not finite"):
        train(make_arguments())


def test_fine_tuning_starts_from_the_checkpoints_weights_and_vocabulary(
    make_arguments: Make, tmp_path: Path, make_config: MakeConfig
) -> None:
    base = make_arguments(output_dir=tmp_path / "base", peak_lr=5e-3)
    train(base)
    best = base.output_dir / "best_model"
    options = {"init_from": best, "peak_lr": NO_LEARNING, "train_subset": "test-tiny"}  # which has no F
    tuned = make_arguments(output_dir=tmp_path / "tuned", config_path=None, **options)
    train(tuned)
    model, processor = load_checkpoint(tuned.output_dir / "best_model")
    expected, expected_processor = load_checkpoint(best)
    assert is_identical(model.state_dict(), expected.state_dict())
    assert processor.tokenizer.get_vocab() == expected_processor.tokenizer.get_vocab()

    with pytest.raises(UserError, match=r"--init_from .*: its weights do not fit .*; leave out --config_path"):
        train(make_arguments(config_path=make_config(num_hidden_layers=1), output_dir=tmp_path / "wrong", **options))


def test_intermediate_heads_start_as_copies_of_the_last_one_or_as_those_of_the_checkpoint(
    make_arguments: Make, make_config: MakeConfig, tmp_path: Path
) -> None:
    base = make_arguments(output_dir=tmp_path / "base", config_path=make_config(num_hidden_layers=4), peak_lr=5e-3)
    train(base)
    options = {"peak_lr": NO_LEARNING, "max_steps": 2}

    def start_from(checkpoint: Path, name: str, blocks: list[int]) -> dict[str, torch.Tensor]:
        config_path = make_config(num_hidden_layers=4, intermediate_ctc_layers=blocks)
        arguments = make_arguments(init_from=checkpoint, config_path=config_path, output_dir=tmp_path / name, **options)
        results = train(arguments)
        assert {"loss", "ctc", "masked", "intermediate"} <= results["history"][0].keys()
        return load_checkpoint(arguments.output_dir / "best_model")[0].state_dict()

    expected = load_checkpoint(base.output_dir / "best_model")[0].state_dict()
    first = start_from(base.output_dir / "best_model", "first", [2])
    assert is_identical({name: first[name] for name in expected}, expected)
    for copied, origin in (("norm", "final_norm"), ("output", "lm_head")):
        for part in ("weight", "bias"):
            assert torch.equal(first[f"intermediate_heads.2.{copied}.{part}"], expected[f"{origin}.{part}"])

    changed = load_checkpoint(tmp_path / "first" / "best_model")[0]
    with torch.no_grad():
        changed.intermediate_heads["2"].output.bias.fill_(0.25)
    save_best_model(tmp_path / "changed.pt", changed, load_best_model(tmp_path / "first" / "best_model.pt")[1])
    second = start_from(tmp_path / "changed.pt", "second", [1, 2])
    assert (second["intermediate_heads.2.output.bias"] == 0.25).all()
    assert torch.equal(second["intermediate_heads.1.output.bias"], expected["lm_head.bias"])

    without = make_arguments(
        init_from=tmp_path / "changed.pt",
        config_path=make_config(num_hidden_layers=4),
        output_dir=tmp_path / "without",
        **options,
    )
    train(without)
    assert "intermediate" not in json.loads((without.output_dir / "results.json").read_text())["history"][0]


def test_neighbours_of_a_speaker_are_heard_as_long_recordings(
    make_arguments: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    step = Trainer._step

    def recording(trainer: Trainer, batches: list[Batch]) -> None:
        heard.extend(name for batch in batches for name in batch["ids"])
        step(trainer, batches)

    monkeypatch.setattr(Trainer, "_step", recording)
    options = {"max_steps": None, "max_epochs": 1, "warmup_steps": 0, "batch_size": 2}
    results = train(make_arguments(join_share=1.0, join_seconds=2.5, **options))
    assert all(math.isfinite(loss) for loss in losses(results))
    names = [f"1-10-{number:04d}" for number in range(7)]
    assert sorted(name for joined in heard for name in joined.split("+")) == names
    assert max(joined.count("+") for joined in heard) >= 1
    for joined in heard:  # neighbours, in their order
        parts = joined.split("+")
        assert parts == names[names.index(parts[0]) :][: len(parts)]


def test_the_state_is_saved_by_the_clock_without_a_validation(
    make_arguments: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[int, int]] = []
    save = TrainingState.save

    def recording(state: TrainingState, *args: Any) -> None:
        saved.append((state.progress.step, state.progress.validated_step))
        save(state, *args)

    monkeypatch.setattr(TrainingState, "save", recording)
    for save_minutes, expected in ((1e-9, [(1, -1), (2, -1), (3, -1)]), (60.0, [])):
        saved.clear()
        train(make_arguments(save_minutes=save_minutes, output_dir=make_arguments().output_dir / str(save_minutes)))
        assert saved == [*expected, (4, -1)]


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_an_encoder_at_scale_zero_stays_and_gets_no_gradients(make_arguments: Make, scale: float) -> None:
    trainer = Trainer(make_arguments(encoder_lr_scale=scale), StopRequest(None))
    model = trainer.state.model
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    trainer.run()
    trainer.close()
    is_kept = {name: torch.equal(weights, before[name]) for name, weights in model.state_dict().items()}
    assert not is_kept["lm_head.weight"] and not is_kept["feature_projection.projection.weight"]
    for name, parameter in model.encoder.named_parameters():
        assert is_kept[f"encoder.{name}"] == (scale == 0)
        assert parameter.requires_grad == (scale != 0)


def test_the_encoder_starts_from_a_pretrained_one_if_asked(
    make_arguments: Make, make_config: MakeConfig, tmp_path: Path
) -> None:
    sizes = {"conv_dim": (16,) * 7, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    pretrained = Wav2Vec2Model(Wav2Vec2Config(**sizes, intermediate_size=16, num_conv_pos_embedding_groups=2))
    pretrained.save_pretrained(tmp_path / "wav2vec2")
    filters = pretrained.feature_extractor.conv_layers[3].conv.weight
    options = {"config_path": make_config(wav2vec2_model_name=str(tmp_path / "wav2vec2")), "peak_lr": NO_LEARNING}
    for name, is_taken in ((None, True), (str(tmp_path / "wav2vec2"), True), ("none", False)):
        output_dir = tmp_path / f"encoder-{is_taken}-{name is None}"
        train(make_arguments(output_dir=output_dir, pretrained_encoder=name, max_steps=2, **options))
        weights = state_of(make_arguments(output_dir=output_dir))["model"]
        found = any(torch.equal(weight, filters) for weight in weights.values())
        assert found == is_taken

    (tmp_path / "wav2vec2" / "config.json").unlink()  # a resumed training does not need it any more
    resumed = make_arguments(output_dir=tmp_path / "encoder-True-True", resume=True, max_steps=3, **options)
    assert train(resumed)["step"] == 3


def test_adaptation_by_an_untrained_loss_is_refused(make_arguments: Make, make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match="--enable_ttt: .* masked_prediction_weight 0.0; set it above 0"):
        train(make_arguments(enable_ttt=True, config_path=make_config(masked_prediction_weight=0.0)))


def test_warmup_must_end_before_training_does(make_arguments: Make) -> None:
    with pytest.raises(UserError, match=r"--warmup_steps 10: .* max_steps = 4;"):
        train(make_arguments(warmup_steps=10, max_steps=None, max_epochs=2, batch_size=4))


def test_recomputing_activations_changes_nothing(make_arguments: Make, make_config: MakeConfig) -> None:
    options = {"config_path": make_config(**NOTHING_RANDOM), "max_steps": 3}
    output_dir = make_arguments().output_dir
    stored, recomputed = (
        train(make_arguments(output_dir=output_dir / str(flag), gradient_checkpointing=flag, **options))
        for flag in (False, True)
    )
    assert losses(recomputed) == pytest.approx(losses(stored), rel=1e-5)


def test_a_gradient_of_float16_that_is_not_finite_moves_no_weight(
    make_arguments: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two optimisers, the one whose gradients are finite waits, too; the scaler goes on with half its scale."""
    trainer = Trainer(make_arguments(optimizer="muon"), StopRequest(None))
    state = trainer.state
    state.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    (broken, *_), (others, *_) = (optimizer.param_groups[0]["params"] for optimizer in state.optimizers)
    accumulate = Trainer._accumulate_gradients

    def overflowing(trainer: Trainer, *arguments: Any) -> list[torch.Tensor]:
        losses = accumulate(trainer, *arguments)
        broken.grad.fill_(math.inf)
        return losses

    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    batches = next(trainer._rest_of_epoch())
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_accumulate_gradients", overflowing)
        trainer._step(batches)
    assert is_identical(state.model.state_dict(), before)
    assert state.scaler.get_scale() == 32.0
    trainer._step(batches)
    assert not torch.equal(others, before["layers.0.attention.q_proj.weight"])
    trainer.close()


def test_overfits_four_real_utterances(make_arguments: Make, make_config: MakeConfig, tmp_path: Path) -> None:
    recordings = [json.loads(line) for line in (RECORDINGS / "manifest.jsonl").read_text().splitlines()]
    shortest = sorted(recordings, key=lambda recording: recording["duration"])[:4]
    manifest = tmp_path / "four.jsonl"
    for recording in shortest:
        recording["audio_filepath"] = str(RECORDINGS / recording["audio_filepath"])
    manifest.write_text("".join(json.dumps(recording) + "\n" for recording in shortest))

    config_path = make_config(**NOTHING_RANDOM, hidden_size=64, conv_dim=[32] * 7)
    options = {"train_subset": str(manifest), "val_subset": str(manifest), "optimizer": "muon", "peak_lr": 5e-3}
    results = train(
        make_arguments(config_path=config_path, max_steps=120, warmup_steps=10, eval_every=60, log_every=60, **options)
    )
    assert results["validation"]["words"]["reference_length"] == sum(
        len(recording["text"].split()) for recording in shortest
    )
    assert results["validation"]["wer"] == 0.0
