#!/usr/bin/env bash
# The full-size model on LibriSpeech, on one machine with several GPUs. Interrupt it at any time and start it again:
# it goes on where it was.
#
#     recipes/librispeech/run.sh DATA_DIR WORK_DIR
#
# DATA_DIR holds the LibriSpeech subsets and librispeech-lm-norm.txt.gz; see recipes/librispeech/README.md.
# These variables can be set: PYTHON, NPROC (processes, one a GPU), CONFIG, ENCODER (pretrained, a hub id or a folder),
# TRAIN_SUBSET, EPOCHS, STEPS (instead of EPOCHS), FINE_TUNING_STEPS, NUM_WORKERS (of a process), TRAIN_FLAGS (more
# flags of both trainings), LM_TEXT, KENLM_DIR, LM_TRIALS, TEST_SUBSETS, CONDITIONS, METHODS, SEED.
set -euo pipefail

if [ $# -ne 2 ]; then
    sed -n '2,10p' "$0" >&2
    exit 2
fi
data=$(realpath "$1") work=$(realpath -m "$2")
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
seed=${SEED:-0}
fine_tuning_steps=${FINE_TUNING_STEPS:-2000}
length=(--max_epochs "${EPOCHS:-25}" --warmup_steps 10000)
[ -z "${STEPS:-}" ] || length=(--max_steps "$STEPS" --warmup_steps $((STEPS / 5)))
read -ra train_flags <<<"${TRAIN_FLAGS:-}"
mkdir -p "$work"

processes=("$python" -m torch.distributed.run --standalone --nproc_per_node "${NPROC:-8}")

# train NAME FLAGS...
train() {
    local name=$1
    shift
    grep -qsE '^\{"stop_reason": "(max_steps|early_stop)"' "$work/$name/results.json" && return
    "${processes[@]}" training/train_hybrid_asr.py --resume \
        --config_path "${CONFIG:-configs/hybrid_asr_config.json}" --data_dir "$data" \
        --train_subset "${TRAIN_SUBSET:-train-clean-100+train-clean-360+train-other-500}" --val_subset dev-clean \
        --output_dir "$work/$name" --encoder_lr_scale 0.1 --mixed_precision --num_workers "${NUM_WORKERS:-12}" \
        --seed "$seed" "$@" "${train_flags[@]}"
}
# 8 processes see 128 utterances a step; adaptation needs memory for a copy of the fast weights for each of them.
train train --pretrained_encoder "${ENCODER:-facebook/wav2vec2-base}" --batch_size 8 --gradient_accumulation_steps 2 \
    --peak_lr 5e-4 "${length[@]}"
train adapted --init_from "$work/train/best_model" --enable_ttt --augment --batch_size 4 \
    --gradient_accumulation_steps 4 --peak_lr 5e-5 --max_steps "$fine_tuning_steps" \
    --warmup_steps $((fine_tuning_steps / 10)) --eval_every 500
model=$work/adapted/best_model

lact_asr() {
    "$python" -m lact_asr_model.cli "$@"
}
if [ ! -e "$work/lm/lm.json" ]; then
    kenlm=()
    [ -z "${KENLM_DIR:-}" ] || kenlm=(--kenlm_dir "$KENLM_DIR")
    lact_asr build-lm "${LM_TEXT:-$data/librispeech-lm-norm.txt.gz}" --output_dir "$work/lm" --order 4 \
        --prune 0 0 1 --vocabulary_size 200000 "${kenlm[@]}"
fi
if [ ! -e "$model/decoding.json" ]; then
    lact_asr tune-lm --checkpoint "$model" --data_dir "$data" --subset dev-clean --lm "$work/lm" \
        --num_trials "${LM_TRIALS:-30}"
fi

# Greedy, plain and adapted, on the same clean and corrupted audio; then with the language model.
for subset in ${TEST_SUBSETS:-test-clean test-other}; do
    "${processes[@]}" -m lact_asr_model.cli evaluate --checkpoint "$model" --data_dir "$data" --subset "$subset" \
        --seed "$seed" --conditions "${CONDITIONS:-clean,gaussian:0.005,gaussian:0.01,gaussian:0.015,gaussian:0.02}" \
        --methods "${METHODS:-none,suta,ttt:1,ttt:2}" \
        --output_dir "$work/results/$subset"
    [ -e "$work/results/$subset-lm/results.json" ] ||
        lact_asr transcribe --checkpoint "$model" --data_dir "$data" --subset "$subset" --no-use_ttt --beam_size 50 \
            --lm "$work/lm" --move_emission_to_cpu --decoding_processes 8 --output_dir "$work/results/$subset-lm" --resume
done
