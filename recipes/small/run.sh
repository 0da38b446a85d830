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
# MOONSHINE is the checkpoint that the model starts from, a folder or a hub id (UsefulSensors/moonshine-base).
# PIPER_VOICE, an .onnx file of piper-tts, speaks 3 h more of the synthetic speech. WHISPER_DIR, a model in
# faster-whisper's format, transcribes DATA_DIR/unlabelled for the training. UNTIL=prepare or UNTIL=train ends it after
# these stages. PYTHON, CONFIG, BATCH_SECONDS, COPIES (of train-mini) and the numbers of steps can be set, too. With
# ADAPTED_STEPS, a training through the adaptation follows; by default there is none.
set -euo pipefail

if [ $# -lt 2 ]; then
    sed -n '2,15p' "$0" >&2
    exit 2
fi
data=$(realpath "$1") work=$(realpath -m "$2") seed=${3:-0}
moonshine=${MOONSHINE:-UsefulSensors/moonshine-base}
[ ! -d "$moonshine" ] || moonshine=$(realpath "$moonshine")
piper_voice=${PIPER_VOICE:+$(realpath "$PIPER_VOICE")}
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
mkdir -p "$work"

config=${CONFIG:-configs/small_asr_config.json} adapted_steps=${ADAPTED_STEPS:-0}
if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    max_minutes=${4:-${MAX_MINUTES:-9}}
    robust_steps=${ROBUST_STEPS:-5000}
    batch_seconds=${BATCH_SECONDS:-240} warmup_steps=300 eval_every=500 num_workers=12 copies=${COPIES:-3}
    for_device=(--ema_decay 0.999)
else
    max_minutes=${4:-${MAX_MINUTES:-}}
    robust_steps=${ROBUST_STEPS:-4500}
    batch_seconds=${BATCH_SECONDS:-96} warmup_steps=60 eval_every=200 num_workers=1 copies=${COPIES:-3}
    for_device=()
fi

# what is trained on: train-mini as many times as there are copies, for it is what the model is to be good at
sources=speechocean762/train.jsonl+$work/speech/manifest.jsonl
for ((copy = 0; copy < copies; copy++)); do
    sources=train-mini+$sources
done

# Ends the script if less than half a minute is left, which saving and validation need.
stop_if_time_is_up() {
    if [ -n "$max_minutes" ] && ((SECONDS + 30 > 60 * max_minutes)); then
        echo "$max_minutes minutes are over; start it again to go on"
        exit 75
    fi
}

# prepare: synthetic speech, transcripts of unlabelled speech, the noises to train on
if [ ! -e "$work/speech.done" ]; then
    "$python" recipes/small/synthesize_speech.py "$data/text/books.txt.xz" "$work/speech" --hours 40 --seed "$seed"
    touch "$work/speech.done"
fi
if [ -n "$piper_voice" ] && [ ! -e "$work/piper.done" ]; then
    "$python" recipes/small/synthesize_speech.py "$data/text/books.txt.xz" "$work/piper" --hours 3 \
        --seed $((seed + 1)) --piper_voice "$piper_voice"
    touch "$work/piper.done"
fi
if [ -e "$work/piper.done" ]; then
    sources=$sources+$work/piper/manifest.jsonl
fi
transcripts=$work/pseudo/manifest.jsonl
if [ ! -e "$transcripts" ]; then
    if [ -z "${WHISPER_DIR:-}" ]; then
        echo "unlabelled speech: left out, as WHISPER_DIR names no model that could transcribe it"
    elif ! "$python" -c 'import faster_whisper' 2>/dev/null; then
        echo "unlabelled speech: left out, as faster-whisper is not installed"
    else
        mkdir -p "$work/pseudo"
        "$python" recipes/small/transcribe_with_whisper.py "$data" unlabelled/manifest.jsonl "$transcripts.partial" \
            --model_dir "$WHISPER_DIR"
        mv "$transcripts.partial" "$transcripts"
    fi
fi
if [ -e "$transcripts" ]; then
    sources=$sources+$transcripts
fi
if [ ! -d "$work/noise" ]; then
    mkdir "$work/noise"
    cp -r "$data"/noise/{clock_tick,dog_bark,fire_crackling,rooster,sea_waves} "$work/noise"
fi
[ "${UNTIL:-}" != prepare ] || exit 0

# start from a pre-trained encoder
if [ ! -d "$work/start" ]; then
    "$python" -m lact_asr_model.training.moonshine --config_path "$config" --moonshine "$moonshine" --data_dir "$data" \
        --train_subset "$sources" --output_dir "$work/start" --seed "$seed"
fi

# fit the head
if [ ! -d "$work/head" ]; then
    "$python" -m lact_asr_model.training.fit_head --init_from "$work/start" --data_dir "$data" \
        --train_subset train-mini --output_dir "$work/head" --epochs 12 --num_workers "$num_workers"
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
            --data_dir "$data" --train_subset "$sources" --val_subset dev-mini --output_dir "$work/$name" \
            --batch_seconds "$batch_seconds" --gradient_accumulation_steps 1 --optimizer muon --peak_lr "$peak_lr" \
            --warmup_steps "$warmup_steps" --max_steps "$steps" --eval_every "$eval_every" --log_every 20 \
            --max_audio_samples 400000 --num_workers "$num_workers" --seed "$seed" --augment --noise_dir "$work/noise" \
            --impulse_response_dir "$data/rir" --mixed_precision "${for_device[@]}" "${piece[@]}" "$@"
    done
}

# train: with noise, rooms, speeds, vocal tracts and microphones; then, if asked to, through the adaptation
train robust "$work/head" "$robust_steps" 8e-4 "$warmup_steps" "$seed"
trained=robust trainings=("$work/robust")
if ((adapted_steps)); then
    train adapted "$work/robust/best_model" "$adapted_steps" 1e-4 20 $((seed + 1)) --enable_ttt --ttt_share 0.5
    trained=adapted trainings+=("$work/adapted")
fi
[ "${UNTIL:-}" != train ] || exit 0

# evaluate NAME SUBSET CONDITIONS [MORE FLAGS]
evaluate() {
    local name=$1 subset=$2 conditions=$3
    shift 3
    stop_if_time_is_up
    "$python" -m lact_asr_model.cli evaluate --checkpoint "$work/$trained/best_model" --data_dir "$data" \
        --subset "$subset" --conditions "$conditions" --noise_dir "$data/noise/rain" --seed "$seed" \
        --output_dir "$work/results/$name" "$@"
}
evaluate dev-mini dev-mini clean,noise:5
evaluate test-mini test-mini clean,noise:5
"$python" recipes/small/split_by_age.py "$data/speechocean762/test.jsonl" "$work/speechocean762"
evaluate speechocean762-test "$work/speechocean762/adults.jsonl" clean \
    --extra_subsets "children=$work/speechocean762/children.jsonl"

# package
"$python" recipes/small/package_model.py "$work/$trained/best_model" "${trainings[@]}" \
    --results "$work"/results/{dev-mini,test-mini,speechocean762-test} --output_dir "$work/bundled_model"
"$python" -m lact_asr_model.cli tune-lm --checkpoint "$work/bundled_model" --data_dir "$data" --subset dev-mini
