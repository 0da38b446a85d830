#!/usr/bin/env bash
# What makes adaptation help: which loss, which weights, how far, how many steps, which layers, with which gate.
#
#     studies/ttt_study.sh DATA_DIR NOISE_DIR OUTPUT_DIR [CHECKPOINT [CHECKPOINT_TRAINED_THROUGH]]
#
# On UTTERANCES (12) utterances of dev-mini under CONDITIONS, with the noises in NOISE_DIR; nothing here sees a test
# set. What a study does not vary is as in the model's configuration. Each table goes to OUTPUT_DIR/NAME.md. Interrupt
# it at any time and start it again: it goes on where it was.
# On one CPU core it takes about half an hour.
set -euo pipefail

if [ $# -lt 3 ]; then
    sed -n '2,9p' "$0" >&2
    exit 2
fi
data=$1 noise=$2 output=$3 model=${4:-lact_asr_model/bundled_model} trained_through=${5:-}
python=${PYTHON:-.venv/bin/python}
utterances=${UTTERANCES:-12} conditions=${CONDITIONS:-clean,gaussian:0.005,noise:5,telephone}
mkdir -p "$output"

# study NAME METHODS [MORE FLAGS]
study() {
    local name=$1 methods=$2
    shift 2
    [ -e "$output/$name.md" ] && return
    "$python" -m lact_asr_model.cli evaluate --checkpoint "$model" --data_dir "$data" --subset dev-mini \
        --max_utterances "$utterances" --conditions "$conditions" --noise_dir "$noise" --num_threads 1 --compact \
        --methods "none,$methods" --output_dir "$output/$name" "$@" >"$output/$name.partial"
    mv "$output/$name.partial" "$output/$name.md"
    printf '\n## %s: %s %s\n\n' "$name" "$methods" "$*"
    cat "$output/$name.md"
}

# Which step size? Of the conv filters, of the fast weights, of the peer.
for step in 0.01 0.03 0.06; do
    study "filters-$step" ttt_front_end:1,ttt_front_end:2 --ttt_front_end_step $step
done
for step in 0.01 0.05; do
    study "fast-weights-$step" ttt_fast_weights:1,ttt_fast_weights:2 --ttt_learning_rate $step
done
for rate in 2e-5 1e-3 2e-3; do
    study "suta-$rate" suta:10 --peer_learning_rate $rate
done

# Which loss?
for loss in masked_prediction entropy; do
    study "loss-$loss" ttt_front_end:1,ttt_fast_weights:1 --ttt_loss_type $loss --ttt_learning_rate 0.05
done

# Which layers, and both kinds of weights at once?
for layers in all 0-1 4-6; do
    study "filters-of-layers-$layers" ttt_front_end:2 --ttt_conv_layers $layers
done
for layers in 0-1 4-5; do
    study "fast-weights-of-blocks-$layers" ttt_fast_weights:1 --ttt_learning_rate 0.05 --ttt_layers $layers
done
study both ttt_both:2 --ttt_learning_rate 0.01

# How many steps? With a gate? From the beginning of the recording only? As a stream?
study steps ttt_front_end:5 --ttt_front_end_step 0.015
study gate-skip ttt_front_end:2 --ttt_skip_entropy 2.35
study beginning ttt_front_end:2 --ttt_max_seconds 5
study stream continual_front_end:1 --ttt_front_end_step 0.01
study stream-reset continual_front_end:1 --ttt_front_end_step 0.01 --ttt_reset_every 4

# Trained through the adaptation, with step sizes that it learned itself?
if [ -n "$trained_through" ]; then
    model=$trained_through
    study trained-through-0.03 ttt_front_end:1,ttt_front_end:2 --ttt_front_end_step 0.03
    study trained-through-0.06 ttt_front_end:1,ttt_front_end:2 --ttt_front_end_step 0.06
    model=${4:-lact_asr_model/bundled_model}
fi

# Where does a self-supervised gradient point where the CTC gradient points?
if [ ! -e "$output/alignment.md" ]; then
    "$python" studies/gradient_alignment.py --checkpoint "$model" --data_dir "$data" --subset dev-mini \
        --max_utterances "$utterances" --conditions "$conditions" --noise_dir "$noise" >"$output/alignment.partial"
    mv "$output/alignment.partial" "$output/alignment.md"
    printf '\n## alignment\n\n'
    cat "$output/alignment.md"
fi
