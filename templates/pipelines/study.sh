#!/usr/bin/env bash
# Does the entropy-regularized label help, and when? The study of docs/study.md, which `make study` runs.
#
#   bash study.sh [DIR]                    # the whole design; everything is written to DIR (runs/study)
#   SIZES=100 SEEDS=1 bash study.sh [DIR]  # one size of the training set, one seed
#
# It may be stopped and started again: every command continues from its own output, and finished models are
# skipped. The variables below are the design; study_choices.sh shows how the temperature and the learning rate
# were chosen, and study_gsm8k.sh has the design at the paper's scale.
set -euo pipefail
: "${POLICY:=tiny}" "${TRAIN:=tiny:train}" "${TEST:=tiny:test}" "${MAX_TOKENS:=160}"
: "${SIZES:=50 100 200 400}"                    # training problems: the first ones of TRAIN
: "${SOLUTIONS:=8}"                             # of each training problem
: "${KS:=4 16}"                                 # completions per prefix
: "${LABELS:=er0.5 er1 er2 er5 soft hard orm}"  # of rewards 0 and 1, the maximum is the hard label
: "${SEEDS:=5}"                                 # each has its own solutions, rollouts and order of training
: "${PROBLEMS:=200}" "${CANDIDATES:=64}" "${TEMPERATURE:=1.3}"
: "${REFERENCE:=64}"                            # completions per prefix of the labels that scores are held against
: "${STEPS:=64}" "${BATCH:=50}" "${LR:=1e-3}"   # the same optimizer steps for every size
: "${JOBS:=2}"                                  # models at a time
export POLICY SIZES SOLUTIONS STEPS BATCH LR

run=${1:-runs/study}
mkdir -p "$run"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export here
cd "$run"
step() { printf '\n== %5d s  %s\n' "$SECONDS" "$*" >&2; }
sampling=(-q -m "$POLICY" --max-tokens "$MAX_TOKENS")

# A training set of SIZE problems is the files of the blocks up to SIZE, one after the other.
for seed in $(seq "$SEEDS"); do
    step "Seed $seed: solutions of the training problems, and completions after every step"
    first=1
    for size in $SIZES; do
        erprm convert -q "$TRAIN" | sed -n "$first,${size}p" |
            erprm sample "${sampling[@]}" -n "$SOLUTIONS" --seed "$seed" -o "solutions-$seed-$size.jsonl"
        for k in $KS; do
            erprm rollout "solutions-$seed-$size.jsonl" "${sampling[@]}" -k "$k" --seed "$seed" \
                -o "rollouts-$seed-$k-$size.jsonl"
        done
        first=$((size + 1))
    done
done

step "Candidates: $CANDIDATES solutions of each of $PROBLEMS test problems, at temperature $TEMPERATURE"
erprm sample "$TEST" -L "$PROBLEMS" "${sampling[@]}" -n "$CANDIDATES" --temperature "$TEMPERATURE" \
    -o candidates.jsonl

step "Reference: one solution of each test problem, with $REFERENCE completions after every step"
erprm sample "$TEST" -L "$PROBLEMS" "${sampling[@]}" -n 1 --seed 1000 -o reference.solutions.jsonl
erprm rollout reference.solutions.jsonl "${sampling[@]}" -k "$REFERENCE" --seed 1000 -o reference.jsonl

# model SEED SIZE K LABEL: train a reward model, score the candidates and the reference, write the result
model() {
    local seed=$1 size=$2 k=$3 label=$4 name=$4-$2-$3-$1 eta=0 outcome=() block files=()
    [ ! -f "result-$name.json" ] || return 0
    case $label in er*) eta=${label#er} ;; hard) eta=inf ;; orm) outcome=(--outcome-only) ;; esac
    for block in $SIZES; do
        [ "$block" -gt "$size" ] || files+=("rollouts-$seed-$k-$block.jsonl")
    done
    cat "${files[@]}" | erprm label -q --eta "$eta" -o "labels-$name.jsonl"
    erprm train -q "labels-$name.jsonl" --base "$POLICY" --seed "$seed" --lr "$LR" --batch-size "$BATCH" \
        --epochs "$(python -c "print($STEPS * $BATCH / ($size * $SOLUTIONS))")" --save-steps 0 \
        "${outcome[@]}" -o "prm-$name" > "log-$name.jsonl"
    erprm score -q candidates.jsonl --prm "prm-$name" -o "scores-$name.jsonl"
    erprm calibrate -q reference.jsonl --prm "prm-$name" --against labels --eta "$eta" \
        -o "calibration-$name.jsonl"
    python "$here/study_result.py" "$seed" "$size" "$k" "$label" "scores-$name.jsonl" \
        "calibration-$name.jsonl" > "result-$name.tmp"
    mv "result-$name.tmp" "result-$name.json"
    rm -f {labels,log,scores,calibration}-"$name".jsonl*
}
export -f model

step "Reward models: ${LABELS// /, }; $SIZES problems; K = $KS"
for seed in $(seq "$SEEDS"); do
    for size in $SIZES; do
        for label in $LABELS; do
            for k in $KS; do
                # The outcome model reads no rollouts, so one K is enough.
                [ "$label" = orm ] && [ "$k" != "${KS##* }" ] || echo "$seed $size $k $label"
            done
        done
    done
done | OMP_NUM_THREADS=$((($(nproc) + JOBS - 1) / JOBS)) \
    xargs -P "$JOBS" -L 1 bash -euo pipefail -c 'model "$@"' model

step "The result"
cat result-*.json > results.jsonl
python "$here/study_tables.py" results.jsonl
step "done"
