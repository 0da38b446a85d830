#!/usr/bin/env bash
# A small model of a foreign architecture, trained on a CPU, and what adaptation does to it. Interrupt it at any time and
# start it again: it goes on where it was.
#
#     recipes/foreign/run.sh DATA_DIR NOISE_DIR HELD_OUT_NOISE_DIR WORK_DIR
#
# NOISE_DIR is heard in training and on the development sets, HELD_OUT_NOISE_DIR in the last table; see
# recipes/foreign/README.md. These variables can be set: PYTHON, TRAIN_SUBSET, MAX_STEPS, DEV_UTTERANCES, TEST_UTTERANCES,
# UNTIL (train or choose: end there).
set -euo pipefail

if [ $# -ne 4 ]; then
    sed -n '2,9p' "$0" >&2
    exit 2
fi
data=$(realpath "$1") noise=$(realpath "$2") held_out_noise=$(realpath "$3") work=$(realpath -m "$4")
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
mkdir -p "$work"

"$python" recipes/foreign/train_student.py --max_steps "${MAX_STEPS:-1700}" --data_dir "$data" --noise_dir "$noise" \
    --train_subset "${TRAIN_SUBSET:-train-clean-10h+train-mini+common-voice-v1/train.jsonl}" --bf16 \
    --output_dir "$work/wavlm"
[ "${UNTIL:-}" != train ] || exit 0

# compare NAME FLAGS...
compare() {
    local output=$work/$1
    shift
    [ -e "$output.md" ] && return
    "$python" -m lact_asr_model.cli evaluate --checkpoint "$work/wavlm" --data_dir "$data" --num_threads 1 \
        --impulse_response_dir "$data/rir" --output_dir "$output" "$@" >"$output.partial"
    mv "$output.partial" "$output.md"
    printf '\n## %s\n\n' "$output"
    cat "$output.md"
}
# Which weights, how far, down which loss? And how far for the peer? On development data only.
mkdir -p "$work/choice"
choose() {
    compare choice/"$1" --subset dev-mini+common-voice-v1/dev.jsonl --compact --noise_dir "$noise" \
        --max_utterances "${DEV_UTTERANCES:-20}" --conditions clean,gaussian:0.01,noise:5,telephone "${@:2}"
}
for step in 0.003 0.01 0.02 0.03; do
    for loss in entropy_mcc entropy; do
        choose "step-$step-$loss" --ttt_front_end_step $step --ttt_loss_type $loss \
            --methods none,ttt_front_end:2,ttt_norms:2,ttt_attention:2,ttt_front_end+norms:2
    done
done
for step in 0.01 0.02; do
    choose "answer-after-$step" --ttt_front_end_step $step --ttt_unadapted_share 0 \
        --methods none,ttt_front_end+norms:1,ttt_front_end+norms:2
done
for rate in 2e-5 2e-4 1e-3; do
    choose "suta-$rate" --methods none,suta:1,suta:2,suta:10 --peer_learning_rate $rate
done
[ "${UNTIL:-}" != choose ] || exit 0

# The table, once, with the defaults of the code and the peer's best rate.
mkdir -p "$work/table"
compare table/wavlm --subset test-mini --max_utterances "${TEST_UTTERANCES:-15}" --conditions protocol \
    --noise_dir "$held_out_noise" --babble_dir "$data/LibriSpeech/dev-mini" \
    --methods none,suta:1,suta:2,suta:10,ttt:1,ttt:2 --peer_learning_rate "${PEER_LEARNING_RATE:-1e-3}"
