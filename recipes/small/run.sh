#!/usr/bin/env bash
# The whole way to the bundled model. Interrupt it at any time and start it again: it goes on where it was.
#
#     recipes/small/run.sh DATA_DIR WORK_DIR [SEED [MAX_MINUTES]]
#
# DATA_DIR and where its parts come from: recipes/small/README.md. A GPU gets more data a step and more steps than a
# CPU. With MAX_MINUTES (9 on a GPU, no limit on a CPU) it saves its state after that time and exits with status 75:
#
#     until recipes/small/run.sh DATA_DIR WORK_DIR; do [ $? = 75 ] || break; done
#
# INIT_FROM is a checkpoint of this architecture to start from, such as the weights that were bundled before. Without
# it, MOONSHINE is the one that gives the encoder, a folder or a hub id (UsefulSensors/moonshine-base).
# TEST_CLEAN_DIR, the folder that holds LibriSpeech's test-clean, is recognised, too. UNTIL=prepare or UNTIL=train ends
# it after these stages. PYTHON, CONFIG, BATCH_SECONDS, SYNTHETIC_HOURS and the numbers of steps can be set, too. With
# ADAPTED_STEPS, a training through the adaptation follows; by default there is none.
set -euo pipefail

if [ $# -lt 2 ]; then
    sed -n '2,15p' "$0" >&2
    exit 2
fi
data=$(realpath "$1") work=$(realpath -m "$2") seed=${3:-61}
moonshine=${MOONSHINE:-UsefulSensors/moonshine-base} init_from=${INIT_FROM:+$(realpath "$INIT_FROM")}
test_clean=${TEST_CLEAN_DIR:+$(realpath "$TEST_CLEAN_DIR")}
[ ! -d "$moonshine" ] || moonshine=$(realpath "$moonshine")
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
mkdir -p "$work"

# from nothing, about as much speech has to be heard as the former weights and those after them have heard together
steps=5000
[ -z "$init_from" ] || steps=1300
config=${CONFIG:-configs/small_asr_config.json} adapted_steps=${ADAPTED_STEPS:-0} robust_steps=${ROBUST_STEPS:-$steps}
read_steps=${READ_STEPS:-600}
if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    max_minutes=${4:-${MAX_MINUTES:-9}}
    batch_seconds=${BATCH_SECONDS:-240} warmup_steps=300 eval_every=500 num_workers=12 ema_decay=0.999
else
    max_minutes=${4:-${MAX_MINUTES:-}}
    batch_seconds=${BATCH_SECONDS:-120} warmup_steps=30 eval_every=250 num_workers=1 ema_decay=0.995
fi

sources=train-clean-10h+train-mini+common-voice-v1/train.jsonl+speechocean762/train.jsonl
sources+=+$work/named/kathleen.jsonl+$work/named/ljspeech.jsonl+$work/named/an4.jsonl+$work/speech/manifest.jsonl

# Ends the script if less than half a minute is left, which saving and validation need.
stop_if_time_is_up() {
    if [ -n "$max_minutes" ] && ((SECONDS + 30 > 60 * max_minutes)); then
        echo "$max_minutes minutes are over; start it again to go on"
        exit 75
    fi
}

# prepare: synthetic speech, manifests that name the speakers, the noises to train on; then a look for leaks
if [ ! -e "$work/speech.done" ]; then
    "$python" recipes/small/synthesize_speech.py "$data/text/books.txt.xz" "$work/speech" \
        --hours "${SYNTHETIC_HOURS:-5}" --seed "$seed"
    touch "$work/speech.done"
fi
if [ ! -d "$work/named" ]; then
    "$python" recipes/small/name_speakers.py "$data" "$work/named.partial"
    mv "$work/named.partial" "$work/named"
fi
if [ ! -d "$work/noise" ]; then
    mkdir "$work/noise"
    cp -r "$data"/noise/{clock_tick,dog_bark,fire_crackling,rooster,sea_waves} "$work/noise"
fi
# check_leakage NAME HELD_OUT
check_leakage() {
    [ -e "$work/$1.txt" ] || "$python" recipes/check_leakage.py "$data" --train "$sources" --held_out "$2" |
        tee "$work/$1.partial"
    [ -e "$work/$1.txt" ] || mv "$work/$1.partial" "$work/$1.txt"
}
held_out=dev-mini+common-voice-v1/dev.jsonl+test-mini+common-voice-delta/en/test.tsv+speechocean762/test.jsonl
check_leakage leakage "$held_out"
for subset in "$test_clean"/{,LibriSpeech/}test-clean; do
    if [ -n "$test_clean" ] && [ -d "$subset" ]; then
        check_leakage leakage-test-clean "$subset" || true # 23 known sentences: README.md, "What the data share"
    fi
done
[ "${UNTIL:-}" != prepare ] || exit 0

# start from a pre-trained encoder, and fit the head
if [ -z "$init_from" ]; then
    if [ ! -d "$work/start" ]; then
        "$python" -m lact_asr_model.training.moonshine --config_path "$config" --moonshine "$moonshine" \
            --data_dir "$data" --train_subset "$sources" --output_dir "$work/start" --seed "$seed"
    fi
    if [ ! -d "$work/head" ]; then
        "$python" -m lact_asr_model.training.fit_head --init_from "$work/start" --data_dir "$data" \
            --train_subset train-mini --output_dir "$work/head" --epochs 12 --num_workers "$num_workers"
    fi
    init_from=$work/head
fi

# train NAME FROM STEPS PEAK_LR WARMUP_STEPS SEED [MORE FLAGS]
train() {
    local name=$1 from=$2 steps=$3 peak_lr=$4 warmup_steps=$5 seed=$6
    shift 6
    ((warmup_steps < steps)) || warmup_steps=$((steps / 2))
    until grep -qs '^{"stop_reason": "max_steps"' "$work/$name/results.json"; do
        stop_if_time_is_up
        local piece=()
        [ -z "$max_minutes" ] || piece=(--max_minutes "$(awk "BEGIN { print $max_minutes - ($SECONDS + 20) / 60 }")")
        "$python" training/train_hybrid_asr.py --resume --init_from "$from" --config_path "$config" \
            --data_dir "$data" --train_subset "$sources" --val_subset dev-mini+common-voice-v1/dev.jsonl \
            --output_dir "$work/$name" --batch_seconds "$batch_seconds" --gradient_accumulation_steps 1 \
            --optimizer muon --peak_lr "$peak_lr" --lr_schedule stable --ema_decay "$ema_decay" \
            --warmup_steps "$warmup_steps" --max_steps "$steps" --eval_every "$eval_every" --log_every 10 \
            --max_audio_samples 400000 --num_workers "$num_workers" --seed "$seed" --augment \
            --noise_dir "$work/noise" --impulse_response_dir "$data/rir" --mixed_precision --join_share 0.6 \
            --join_seconds 60 "${piece[@]}" "$@"
    done
}

# train: with noise, rooms, speeds, vocal tracts and microphones; then, if asked to, through the adaptation
train robust "$init_from" "$robust_steps" 8e-4 "$warmup_steps" "$seed"
# read: the same with more read speech, by a falling rate
twice=train-clean-10h+train-clean-10h+train-mini+train-mini+common-voice-v1/train.jsonl+speechocean762/train.jsonl
twice+=+$work/named/ljspeech.jsonl+$work/speech/manifest.jsonl
train read "$work/robust/best_model" "$read_steps" 6e-4 20 $((seed + 1)) --train_subset "$twice" \
    --val_subset dev-mini --lr_schedule cosine --eval_every 150
trained=read trainings=("$work/robust" "$work/read")
if ((adapted_steps)); then
    train adapted "$work/read/best_model" "$adapted_steps" 1e-4 20 $((seed + 2)) --enable_ttt --ttt_share 0.5
    trained=adapted trainings+=("$work/adapted")
fi
[ "${UNTIL:-}" != train ] || exit 0

# package, and tune the weights of the language model for the packaged one, plain and adapted
model=$work/bundled_model
if [ ! -e "$work/tuned.done" ]; then
    stop_if_time_is_up
    "$python" recipes/small/package_model.py "$work/$trained/best_model" "${trainings[@]}" --output_dir "$model"
    for adapted in "" --use_ttt; do
        "$python" -m lact_asr_model.cli tune-lm --checkpoint "$model" --data_dir "$data" \
            --subset dev-mini+common-voice-v1/dev.jsonl --max_utterances 160 --num_threads 1 \
            --conditions clean,noise:10,room,gaussian:0.005 --noise_dir "$work/noise" \
            --impulse_response_dir "$data/rir" --num_trials 25 --beam_size 50 --lm_weight 0.7 --word_score 0.5 $adapted
    done
    touch "$work/tuned.done"
fi

# evaluate: the tables of its card
stop_if_time_is_up
"$python" benchmarks/tables.py --checkpoint "$model" --documents "$model/README.md" --data_dir "$data" \
    ${test_clean:+--test_clean_dir "$test_clean"} --output_dir "$work/tables"
