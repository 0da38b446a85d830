"""Train the recogniser: one plain loop over batches, with CTC and masked prediction learned together."""

import json
import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.utils import gather_object, set_seed
from torch import Tensor, nn

from lact_asr_model.acoustic_models.acoustic_model import normalize_recordings
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.checkpoint_io import load_best_model, save_best_model, save_pretrained_folder
from lact_asr_model.data.augmentation import TrainingAugmentation
from lact_asr_model.data.bucketing import BatchPlan, BucketBatchSampler
from lact_asr_model.data.collate import CTCCollator
from lact_asr_model.data.dataset import UtteranceDataset
from lact_asr_model.data.joining import join_neighbours
from lact_asr_model.data.spelling import load_speller
from lact_asr_model.data.transcript_report import describe_lost_words, describe_unknown_letters
from lact_asr_model.data.utterance import Utterance, load_samples
from lact_asr_model.errors import UserError
from lact_asr_model.log_mel_encoder import LogMelEncoder
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.training.adapted_step import adapted_weights
from lact_asr_model.training.arguments import TrainingArguments
from lact_asr_model.training.averaging import WeightAverage
from lact_asr_model.training.checkpoint import Progress, TrainingState
from lact_asr_model.training.data_check import DataCheck
from lact_asr_model.training.interruption import StopRequest, stopping_on_signals
from lact_asr_model.training.loading import Batch, make_loader, model_inputs, read_batches
from lact_asr_model.training.micro_batches import (
    GIGABYTE,
    OVERHEADS,
    Memory,
    MicroBatching,
    choose_micro_batching,
    free_bytes,
    return_freed_memory,
)
from lact_asr_model.training.model_card import make_model_card
from lact_asr_model.training.optimizers import make_optimizers, set_learning_rate
from lact_asr_model.training.schedules import check_schedule, learning_rate_factor
from lact_asr_model.training.selection import select_trainable
from lact_asr_model.training.setup import build_model, make_accelerator, recompute_activations
from lact_asr_model.training.step_memory import count_working_bytes
from lact_asr_model.training.tracking import LOSSES, LossWindow, Tracker, memory_norms, update_angles
from lact_asr_model.training.validation import ValidationResult, validate

BEST_MODEL = "best_model.pt"
AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_BOUND_BYTES = 8  # a weight makes less than that for each frame; memory is counted only where that much would not fit
FREE_TO_CHANGE = (  # options with which a training may be resumed differently
    *("config_path", "data_dir", "val_subset", "test_subset", "output_dir", "resume", "init_from"),
    *("pretrained_encoder", "max_epochs", "max_steps", "max_minutes", "num_workers", "eval_every"),
    *("early_stop_patience", "log_every", "save_minutes", "tracker", "noise_dir", "impulse_response_dir"),
    *("gradient_checkpointing", "max_memory_gb", "max_bad_share"),
    *("batch_size", "batch_seconds", "gradient_accumulation_steps"),  # where the product stays the same
)
_NUM_LOGGED_TRANSCRIPTS = 5


def train(arguments: TrainingArguments) -> dict[str, Any]:
    """Train, or go on training, and return what `results.json` says.

    The first Ctrl-C or SIGTERM ends it after the current step with the state saved; "stop_reason" is then the signal's
    name.

    Raises:
        UserError: the options or the data cannot be trained with, or the loss is no longer finite.
    """
    request = StopRequest(arguments.max_minutes)
    with stopping_on_signals(request):
        trainer = Trainer(arguments, request)
        try:
            return trainer.run()
        except torch.OutOfMemoryError:
            raise UserError(trainer.describe_lack_of_memory()) from None
        finally:
            trainer.close()


class Trainer:
    """A training and all that it needs; `run` is the loop."""

    def __init__(self, arguments: TrainingArguments, request: StopRequest) -> None:
        self.arguments = arguments
        self.request = request
        self.state_path = arguments.output_dir / "training_state.pt"
        is_resumed = self.state_path.exists()
        if is_resumed and not arguments.resume:
            raise UserError(
                f"--output_dir {arguments.output_dir}: holds a training already; add --resume to go on with it, "
                "or choose another folder"
            )
        self.notes: list[str] = []
        utterances, self.val_utterances, self.test_utterances = self._look_at_data()

        transcripts = [utterance.text or "" for utterance in utterances]
        model, self.processor = build_model(arguments, transcripts, is_resumed=is_resumed)
        self._note_unknown_letters(utterances)
        config = model.config
        self.accelerator = make_accelerator(arguments, config)
        self.tracker = Tracker(self.accelerator.is_main_process, arguments.tracker)
        self.control_group: torch.distributed.ProcessGroup | None = None
        if self.accelerator.num_processes > 1:
            self.control_group = torch.distributed.new_group(backend="gloo")

        augmentation = None
        if arguments.augment:
            augmentation = TrainingAugmentation(arguments.noise_dir, arguments.impulse_response_dir)
        slowest_speed, fastest_speed = (1.0, 1.0) if augmentation is None else augmentation.speed_range
        self.selection = select_trainable(
            utterances, config, max_audio_samples=arguments.max_audio_samples, fastest_speed=fastest_speed
        )
        kept = self.selection.utterances
        self._check_same_on_all_processes(len(kept))
        self.dataset = UtteranceDataset(kept, self.processor.tokenizer, augmentation, arguments.seed, skip_bad=True)

        scale = config.encoder_lr_scale if arguments.encoder_lr_scale is None else arguments.encoder_lr_scale
        self.encoder_lr_scale = scale
        if scale == 0:
            model.encoder.requires_grad_(False)
        self.model: nn.Module = self.accelerator.prepare_model(model)
        optimizers = make_optimizers(
            model,
            name=arguments.optimizer,
            peak_lr=arguments.peak_lr,
            encoder_lr_scale=scale,
            weight_decay=arguments.weight_decay,
        )
        scaler = self.accelerator.scaler or torch.amp.GradScaler(enabled=False)
        average = WeightAverage(model, arguments.ema_decay) if arguments.ema_decay else None
        sizes = BatchPlan(
            **self._batch_limits(),
            accumulation=arguments.gradient_accumulation_steps,
            num_processes=self.accelerator.num_processes,
        )
        self.state = TrainingState(Progress(plan=asdict(sizes)), model, optimizers, scaler, average)
        set_seed(arguments.seed, device_specific=True)
        if is_resumed:
            self.state.load(self.state_path, self._identity(), self.accelerator.process_index)
        self.acoustic_model = HybridAcousticModel(model, self.processor)
        self.saved_step = self.state.progress.step if is_resumed else None
        plan = BatchPlan(**self.state.progress.plan)
        if not sizes.is_same_training(plan):
            raise UserError(
                f"{self.state_path}: a step of this training has {plan.describe()}, not {sizes.describe()}; choose "
                "sizes with the same product, or start another training in a new --output_dir"
            )
        self.sampler = BucketBatchSampler(
            [utterance.duration_seconds for utterance in kept],
            **self._batch_limits(),
            accumulation=arguments.gradient_accumulation_steps,
            seed=arguments.seed,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            join=self._join_neighbours if arguments.join_share else None,
            plan=plan,
        )
        collator = CTCCollator(self.processor.feature_extractor)
        device = self.accelerator.device
        self.loader = make_loader(self.dataset, self.sampler, collator, arguments.num_workers, device)

        steps_per_epoch = math.ceil(self.sampler.num_planned / plan.accumulation)
        self.max_steps = arguments.max_steps or arguments.max_epochs * steps_per_epoch
        self.eval_every = arguments.eval_every or steps_per_epoch
        self.schedule = {"warmup_steps": arguments.warmup_steps, "max_steps": self.max_steps}
        check_schedule(**self.schedule, schedule=arguments.lr_schedule)

        longest_seconds = max(utterance.duration_seconds for utterance in kept)
        if arguments.join_share:
            longest_seconds = max(longest_seconds, arguments.join_seconds)
        self.longest_seconds = longest_seconds / slowest_speed
        self.micro_batching = self._choose_micro_batching()
        recompute_activations(model, self.micro_batching.recompute)
        if self.micro_batching.recompute and self.accelerator.device.type == "cpu":
            return_freed_memory()

        self.window = LossWindow(self.accelerator.device)
        self.grad_norm = math.nan
        self.saved_at_seconds = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Train until there is a reason to stop, then recognise the test set with the best model."""
        arguments, progress = self.arguments, self.state.progress
        self._introduce()
        self.tracker.open(arguments.output_dir / "tensorboard", step=progress.step, max_steps=self.max_steps)
        self._log_spectrogram()
        self.model.train()
        if progress.step and progress.step % self.eval_every == 0 and progress.validated_step != progress.step:
            self._validate()  # what ended the training before came between the saved state and this
        stop_reason = self._completion()
        while stop_reason is None:
            for batches in self._rest_of_epoch():
                stop_reason = self._interruption()
                if stop_reason is None:
                    self._step(batches)
                    if progress.step % arguments.log_every == 0:
                        self._log()
                    if progress.step % self.eval_every == 0:
                        self._validate()
                    elif self._is_time_to_save():
                        self._save_state()
                    stop_reason = self._completion()
                if stop_reason is not None:
                    break
            else:
                progress.epoch += 1
                progress.batches_in_epoch = 0
        return self._finish(stop_reason)

    def close(self) -> None:
        """End the progress bar, the log and the process group."""
        self.tracker.close()
        self.accelerator.end_training()

    def describe_lack_of_memory(self) -> str:
        """One line for when the device's memory ran out all the same."""
        held, free = free_bytes(self.accelerator.device)
        limit = min(self.micro_batching.memory.limit, held + free)
        return (
            f"--max_memory_gb: the memory of {self.accelerator.device} ran out after step {self.state.progress.step}; "
            f"give --resume --max_memory_gb {0.8 * limit / GIGABYTE:.1f}, for smaller micro-batches, or lower "
            "--max_audio_samples"
        )

    def _choose_micro_batching(self) -> MicroBatching:
        """What fits on the device beside weights, gradients and the optimiser's state."""
        arguments, accelerator, model = self.arguments, self.accelerator, self.state.model
        held, free = free_bytes(accelerator.device)
        limit = held + free if arguments.max_memory_gb is None else arguments.max_memory_gb * GIGABYTE
        memory = Memory(held + self.state.bytes_to_come(num_processes=accelerator.num_processes), limit)
        seconds = self.longest_seconds
        num_frames = model.config.num_frames(round(seconds * model.config.sampling_rate))
        num_weights = sum(parameter.numel() for parameter in model.parameters())
        if _BOUND_BYTES * num_weights * num_frames * self._largest_batch(seconds) <= memory.working:
            return MicroBatching(memory, arguments.gradient_checkpointing)

        def count(seconds: float, recompute: bool) -> float:
            return OVERHEADS[accelerator.device.type] * count_working_bytes(
                self.acoustic_model,
                seconds,
                recompute=recompute,
                ttt_gradient=arguments.ttt_gradient if arguments.enable_ttt else None,
                autocast_dtype=AUTOCAST_DTYPES.get(accelerator.mixed_precision),
                is_gpu=accelerator.device.type == "cuda",
            )

        return choose_micro_batching(count, memory, seconds, recompute=arguments.gradient_checkpointing)

    def _largest_batch(self, seconds: float) -> int:
        """How many utterances of that length are in one batch."""
        if self.arguments.batch_seconds is not None:
            return max(1, int(self.arguments.batch_seconds / seconds))
        return self.arguments.batch_size

    def _rest_of_epoch(self) -> Iterator[list[Batch]]:
        """The batches of one optimiser step after the other, from where the epoch was left.

        An empty list when a signal to all processes has ended the loading ones: it is time to stop.
        """
        progress, sampler = self.state.progress, self.sampler
        self.dataset.set_epoch(progress.epoch)
        sampler.set_epoch(progress.epoch)
        sampler.skip(progress.batches_in_epoch)
        num_steps_done = math.ceil(progress.batches_in_epoch / sampler.plan.accumulation)
        batches = read_batches(self.loader)
        try:
            for num_batches in sampler.step_sizes[num_steps_done:]:
                yield list(islice(batches, num_batches))
        except (RuntimeError, OSError, EOFError):  # whichever connection to them breaks first
            if self.request.signal_number is None:
                raise
            yield []

    def _step(self, batches: list[Batch]) -> None:
        """One optimiser step on the mean loss of all utterances that all processes hold in `batches`."""
        progress, state = self.state.progress, self.state
        skipped = [item for batch in batches for item in batch["skipped"]]
        num_utterances, num_samples, num_skipped = self._over_processes(
            [
                sum(len(batch["ids"]) for batch in batches),
                sum(int(batch["attention_mask"].sum()) for batch in batches if batch["ids"]),
                len(skipped),
            ]
        )
        if num_skipped:
            self._tell_skipped(gather_object(skipped))
        factor = learning_rate_factor(progress.step, **self.schedule, schedule=self.arguments.lr_schedule)
        set_learning_rate(state.optimizers, factor)

        pieces = [piece for batch in batches for piece in self.micro_batching.cut(batch)]
        losses = self._accumulate_gradients(pieces, num_utterances)
        for optimizer in state.optimizers:
            state.scaler.unscale_(optimizer)
        grad_norm = nn.utils.clip_grad_norm_(state.model.parameters(), self.arguments.max_grad_norm or math.inf)
        self._check_finite(pieces, losses, grad_norm)
        for optimizer in state.optimizers:
            if math.isfinite(self.grad_norm):  # or clipping has spoilt the gradients of all optimisers, not of one
                state.scaler.step(optimizer)
            optimizer.zero_grad()
        state.scaler.update()

        progress.step += 1
        num_planned = progress.batches_in_epoch + self.sampler.plan.accumulation
        progress.batches_in_epoch = min(num_planned, self.sampler.num_planned)
        if state.average is not None:
            state.average.update(progress.step)
        self.window.num_steps += 1
        self.window.num_samples += int(num_samples)
        self.tracker.advance()

    def _accumulate_gradients(self, batches: list[Batch], num_utterances: float) -> list[Tensor]:
        """Add up the gradient of the mean loss over all processes' utterances; gives the loss of each batch."""
        num_processes, scaler = self.accelerator.num_processes, self.state.scaler
        losses = []
        for index, batch in enumerate(batches):
            share = len(batch["ids"]) / max(1, num_utterances)  # 0 where nothing could be read
            is_last = index == len(batches) - 1
            inputs = model_inputs(batch, self.accelerator.device)
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                output = self.model(**inputs, weights=self._adapted_weights(inputs))
                scaler.scale(output.loss * (share * num_processes)).backward()  # DDP averages over processes
            losses.append(output.loss.detach())
            parts = [output.loss, output.ctc_loss, output.masked_prediction_loss]
            if output.intermediate_ctc_loss is not None:
                parts.append(output.intermediate_ctc_loss)
            self.window.losses[: len(parts)] += share * torch.stack(parts).detach()
        return losses

    def _adapted_weights(self, inputs: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The weights adapted to the batch, in the steps that --enable_ttt has a share of."""
        arguments, step = self.arguments, self.state.progress.step
        share = arguments.ttt_share if arguments.enable_ttt else 0.0
        if math.floor((step + 1) * share) == math.floor(step * share):
            return None
        with self.accelerator.autocast():
            is_exact = arguments.ttt_gradient == "exact"
            return adapted_weights(self.acoustic_model, inputs, seed=step, is_exact=is_exact)

    def _check_finite(self, batches: list[Batch], losses: list[Tensor], grad_norm: Tensor) -> None:
        """Halt all processes before the optimiser's step if a loss or the gradient is not finite.

        float16 is excused for its gradients: there the step is skipped, and the scaler lowers its scale.
        """
        *loss_values, self.grad_norm = torch.stack([*losses, grad_norm]).tolist()
        broken = [batch for batch, loss in zip(batches, loss_values, strict=True) if not math.isfinite(loss)]
        gradient_is_broken = not math.isfinite(self.grad_norm) and not self.state.scaler.is_enabled()
        num_broken, num_gradients_broken = self._over_processes([len(broken), gradient_is_broken])
        if not num_broken and not num_gradients_broken:
            return
        suspects = [name for batch in (broken if num_broken else batches) for name in batch["ids"]]
        raise UserError(
            f"step {self.state.progress.step + 1}: the {'loss' if num_broken else 'gradient'} is not finite, with the "
            f"utterances {', '.join(sorted(gather_object(suspects)))}; check that audio, or lower --peak_lr (the last "
            "saved state is untouched)"
        )

    def _log_spectrogram(self) -> None:
        """The first utterance of the validation set, as the ear of a log-mel front end has it."""
        samples = self._first_samples_of_validation()
        if samples is not None:
            energies = LogMelEncoder(self.state.model.config).log_energies(samples)[0].T.flip(0)  # low pitches below
            self.tracker.log_picture("validation/spectrogram", self.state.progress.step, energies.numpy())

    def _log_update_angles(self) -> None:
        """What the layer memory makes of the same utterance."""
        samples = self._first_samples_of_validation()
        if samples is not None:
            inputs = normalize_recordings(self.processor.feature_extractor, [samples[0].numpy()])
            angles = update_angles(self.state.model, inputs["input_values"].to(self.accelerator.device))
            self.tracker.log("update_angle", self.state.progress.step, angles)

    def _first_samples_of_validation(self) -> torch.Tensor | None:
        """[1, samples]; None where they are too few for a frame, and in all processes but one."""
        samples = torch.from_numpy(load_samples(self.val_utterances[0]))[None]
        is_enough = samples.shape[1] >= self.state.model.config.receptive_field_samples
        return samples if self.accelerator.is_main_process and is_enough else None

    def _log(self) -> None:
        progress, window = self.state.progress, self.window
        sums = self.accelerator.reduce(window.losses, "sum")
        losses = dict(zip(LOSSES, (sums / window.num_steps).tolist(), strict=True))
        if not self.state.model.config.intermediate_ctc_layers:
            del losses["intermediate"]
        audio_seconds = window.num_samples / self.state.model.config.sampling_rate
        factor = learning_rate_factor(progress.step - 1, **self.schedule, schedule=self.arguments.lr_schedule)
        values = {
            **losses,
            "lr": self.arguments.peak_lr * factor,
            "grad_norm": self.grad_norm,
            "audio_seconds_per_second": audio_seconds / window.elapsed_seconds,
        }
        epoch = progress.epoch + progress.batches_in_epoch / self.sampler.num_planned
        progress.history.append({"step": progress.step, "epoch": epoch, **values})
        self.tracker.log("train", progress.step, {**values, "encoder_lr": values["lr"] * self.encoder_lr_scale})
        self.tracker.log("memory_norm", progress.step, memory_norms(self.state.model.fast_weights()))
        self.tracker.say(
            f"step {progress.step}/{self.max_steps}  epoch {epoch:.2f}  "
            f"{'  '.join(f'{name} {value:.4f}' for name, value in losses.items())}  lr {values['lr']:.2e}  "
            f"grad {self.grad_norm:.2f}  {values['audio_seconds_per_second']:.1f} audio s/s"
        )
        self.window = LossWindow(self.accelerator.device)

    def _validate(self) -> None:
        """Save the state, recognise the validation set, and keep the model if it is the best so far."""
        state, progress = self.state, self.state.progress
        if self.saved_step != progress.step:
            self._save_state()
        started_seconds = time.perf_counter()
        with nullcontext() if state.average is None else state.average.applied():
            result = self._recognise(state.model, self.val_utterances)
            summary = {"step": progress.step, **result.summary()}
            best = progress.best_validation
            is_better = (summary["wer"], summary["loss"]) < (best["wer"], best["loss"])
            if is_better:
                progress.best_validation = summary
                self._save_best(summary)
        progress.validations_without_improvement = 0 if is_better else progress.validations_without_improvement + 1
        progress.validated_step = progress.step
        progress.history.append({"validation": summary})
        self.tracker.log("validation", progress.step, {name: summary[name] for name in ("loss", "wer", "cer")})
        self.tracker.say(
            f"validation at step {progress.step}: {result.describe()}{'  best so far' if is_better else ''}"
            f"  ({time.perf_counter() - started_seconds:.0f} s)"
        )
        self.tracker.say(f"  reference:  {result.transcripts[0]['ref']}\n  hypothesis: {result.transcripts[0]['hyp']}")
        self._log_update_angles()
        self.tracker.log_transcripts("transcript", progress.step, result.transcripts[:_NUM_LOGGED_TRANSCRIPTS])
        if self.accelerator.is_main_process:
            state.save_progress(self.state_path)
        self.accelerator.wait_for_everyone()
        self.saved_at_seconds = time.monotonic()
        self.window = LossWindow(self.accelerator.device)

    def _recognise(self, model: HybridASRForCTC, utterances: list[Utterance]) -> ValidationResult:
        """By the model as it will be used: with adaptation, if that is its default; in batches that memory allows."""
        plan, limits = self.micro_batching, self._batch_limits()
        longest_seconds = max(utterance.duration_seconds for utterance in utterances)
        most = self._largest_batch(longest_seconds)
        if plan.at_once(most + 1, longest_seconds) <= most:
            limits["batch_seconds"] = plan.at_once(most, longest_seconds) * longest_seconds
            recompute_activations(model)
        result = validate(
            model,
            utterances,
            self.processor,
            self.accelerator,
            **limits,
            num_workers=self.arguments.num_workers,
            with_adaptation=model.config.enable_ttt,
        )
        recompute_activations(model, plan.recompute)
        self._tell_skipped(result.skipped)
        return result

    def _tell_skipped(self, skipped: Sequence[tuple[str, str]]) -> None:
        """Name recordings that could not be read, each once."""
        known = self.state.progress.skipped
        for name, reason in skipped:
            if name not in known:
                known[name] = reason
                self.tracker.say(f"skipped {name}: {reason}")

    def _save_best(self, summary: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            folder = self.arguments.output_dir
            folder.mkdir(parents=True, exist_ok=True)
            save_best_model(folder / BEST_MODEL, self.state.model, self.processor.tokenizer.get_vocab())
            card = make_model_card(self.arguments, training_data=self.selection.describe(), validation=summary)
            save_pretrained_folder(folder / "best_model", self.state.model, self.processor, model_card=card)

    def _save_state(self) -> None:
        if self.accelerator.is_main_process:
            self.state_path.parent.mkdir(parents=True, exist_ok=True)
        self.state.save(self.state_path, self._identity(), self.accelerator.is_main_process)
        self.accelerator.wait_for_everyone()
        self.saved_step = self.state.progress.step
        self.saved_at_seconds = time.monotonic()

    def _is_time_to_save(self) -> bool:
        """The same on all processes."""
        is_due = time.monotonic() - self.saved_at_seconds >= 60 * self.arguments.save_minutes
        return bool(self._over_processes([is_due], torch.distributed.ReduceOp.MAX)[0])

    def _finish(self, stop_reason: str) -> dict[str, Any]:
        """Validate and save what is not yet; with the best model, recognise the test set; write `results.json`."""
        arguments, progress = self.arguments, self.state.progress
        output_dir = arguments.output_dir
        if stop_reason in signal.Signals.__members__:
            self._save_state()
            self.tracker.say(f"{stop_reason}: state saved at step {progress.step}; --resume goes on from there")
            return {"stop_reason": stop_reason, "step": progress.step}
        if progress.validated_step != progress.step:
            self._validate()
        results = {
            "stop_reason": stop_reason,
            "step": progress.step,
            "epoch": progress.epoch,
            "seed": arguments.seed,
            "training_data": self.selection.describe(),
            "num_processes": self.accelerator.num_processes,
            "device": str(self.accelerator.device),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "arguments": _storable(vars(arguments)),
            "validation": progress.best_validation,
            "bad_items": [asdict(item) for item in self.check.bad_items],
            "skipped": progress.skipped,
        }
        if self.test_utterances:
            best_model = HybridASRForCTC.of(load_best_model(output_dir / BEST_MODEL)[0])
            test = self._recognise(best_model.to(self.accelerator.device), self.test_utterances)
            results["test"] = test.summary()
            self.tracker.say(f"{arguments.test_subset}: {test.describe()}")
            self._write(output_dir / "test_results.jsonl", *test.transcripts)
        results["history"] = progress.history
        self._write(output_dir / "results.json", results)
        self.tracker.say(f"stopped at step {progress.step} ({stop_reason}); best model in {output_dir / BEST_MODEL}")
        return results

    def _write(self, path: Path, *objects: dict[str, Any]) -> None:
        """One JSON object a line, on the main process."""
        if self.accelerator.is_main_process:
            path.write_text("".join(json.dumps(content) + "\n" for content in objects), encoding="utf-8")

    def _introduce(self) -> None:
        state, accelerator = self.state, self.accelerator
        num_parameters = sum(parameter.numel() for parameter in state.model.parameters())
        precision = accelerator.mixed_precision if accelerator.mixed_precision != "no" else "float32"
        self.tracker.say(f"training data: {self.selection.describe()}")
        for line in self.notes:
            self.tracker.say(line)
        self.tracker.say(
            f"model: {num_parameters / 1e6:.1f} M parameters, {state.model.config.vocab_size} symbols; "
            f"{accelerator.num_processes} process(es) on {accelerator.device.type}, {precision}; "
            f"{self.max_steps} steps, validation every {self.eval_every}"
        )
        self.tracker.say(self.micro_batching.describe(self._largest_batch(self.longest_seconds), self.longest_seconds))
        if self.arguments.mixed_precision and precision == "float32":
            self.tracker.say("--mixed_precision: ignored, this CPU has no instructions for bfloat16")
        if state.progress.step:
            self.tracker.say(f"going on from step {state.progress.step} in {self.state_path}")

    def _completion(self) -> str | None:
        """Why there is nothing left to train; None: go on."""
        progress, patience = self.state.progress, self.arguments.early_stop_patience
        if progress.step >= self.max_steps:
            return "max_steps"
        if patience is not None and progress.validations_without_improvement >= patience:
            return "early_stop"
        return None

    def _interruption(self) -> str | None:
        """Why to stop before the next step, the same on all processes; None: go on."""
        signal_number, time_is_up = self._over_processes(
            [self.request.signal_number or 0, self.request.time_is_up], torch.distributed.ReduceOp.MAX
        )
        if signal_number:
            return signal.Signals(int(signal_number)).name
        return "max_minutes" if time_is_up else None

    def _over_processes(
        self, values: list[float], operation: torch.distributed.ReduceOp.RedOpType = torch.distributed.ReduceOp.SUM
    ) -> list[float]:
        """Sum (or maximum) of each value over all processes; on the CPU, so that no GPU has to wait."""
        if self.control_group is None:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(tensor, operation, group=self.control_group)
        return tensor.tolist()

    def _join_neighbours(self, rng: np.random.Generator) -> list[tuple[int, ...]]:
        utterances = self.dataset.utterances
        return join_neighbours(
            [utterance.duration_seconds for utterance in utterances],
            [utterance.speaker for utterance in utterances],
            rng,
            share=self.arguments.join_share,
            longest_seconds=self.arguments.join_seconds,
        )

    def _look_at_data(self) -> tuple[list[Utterance], list[Utterance], list[Utterance]]:
        """Training, validation and test set without what is bad in them."""
        arguments = self.arguments
        self.check = DataCheck(
            arguments.output_dir,
            max_bad_share=arguments.max_bad_share,
            spell_out=load_speller() if arguments.normalize else None,
            writes=os.environ.get("RANK", "0") == "0",
        )
        found: list[list[Utterance]] = []
        for option in ("train_subset", "val_subset", "test_subset"):
            source = getattr(arguments, option)
            found.append([] if source is None else self.check.read(f"--{option}", source, arguments.data_dir))
            self.notes += filter(
                None, [describe_lost_words(found[-1], f"--{option} {source}", is_spelled_out=arguments.normalize)]
            )
        self.notes += self.check.describe()
        train, val, test = found
        return train, val, test

    def _note_unknown_letters(self, utterances: Sequence[Utterance]) -> None:
        """For the vocabulary of a checkpoint, which need not be that of the transcripts."""
        source = f"--train_subset {self.arguments.train_subset}"
        line = describe_unknown_letters(utterances, self.processor.tokenizer.get_vocab(), source)
        self.notes += filter(None, [line])

    def _check_same_on_all_processes(self, num_utterances: int) -> None:
        largest, negated = self._over_processes([num_utterances, -num_utterances], torch.distributed.ReduceOp.MAX)
        if largest != -negated:
            raise UserError(
                f"--train_subset {self.arguments.train_subset}: processes found from {-negated:g} to {largest:g} "
                "usable utterances; give all of them the same files"
            )

    def _batch_limits(self) -> dict[str, Any]:
        if self.arguments.batch_seconds is not None:
            return {"batch_seconds": self.arguments.batch_seconds}
        return {"batch_size": self.arguments.batch_size}

    def _identity(self) -> dict[str, Any]:
        """What must stay the same when a training is resumed, for it to be the same training."""
        config = self.state.model.config
        fields = {name: getattr(config, name) for name in config.own_fields()}
        options = {name: value for name, value in vars(self.arguments).items() if name not in FREE_TO_CHANGE}
        return {
            **{f"--{name}": value for name, value in _storable(options).items()},
            **_storable(fields),
            "number of training utterances": len(self.selection.utterances),
            "vocabulary": self.processor.tokenizer.get_vocab(),
        }


def _storable(values: dict[str, Any]) -> dict[str, Any]:
    """The values as JSON knows them: paths as strings, tuples as lists."""
    return json.loads(json.dumps(values, default=str))
