#!/usr/bin/env bash
# Does the entropy-regularized label help, and when? The design of docs/study.md as erprm commands.
#
#   bash study.sh [DIR]                    # the whole design; everything is written to DIR (runs/study)
#   SIZES=100 SEEDS=1 bash study.sh [DIR]  # one size of the training set, one seed
#
# The variables below are the design; those given are for `tiny`, and study_gsm8k.sh has those of the paper's
# scale. The script may be stopped and started again: every command continues from its own output, and
# finished models are skipped. Seeds come one after the other, with tables of all seeds so far after each.
set -euo pipefail
: "${TRAIN:=tiny:train}" "${TEST:=tiny:test}"
: "${SIZES:=50 100 200 400}"                    # training problems, ascending: the first by id
: "${SOLUTIONS:=8}"                             # of each training problem
: "${KS:=4 16}"                                 # completions per prefix: the first 4 of the same 16
: "${LABELS:=er0.5 er1 er2 er5 soft hard orm}"  # of rewards 0 and 1, the maximum is the hard label
: "${SEEDS:=1 2 3 4 5}"                         # each has its own solutions, rollouts and order of training
: "${PROBLEMS:=200}" "${CANDIDATES:=64}" "${TEMPERATURE:=1.3}"
: "${REFERENCE:=64}"                            # completions per prefix that scores are compared with
: "${STEPS:=64}" "${BATCH:=50}" "${LR:=2e-3}"   # the same optimizer steps for every size
: "${RAFT=100 16}"                              # the SIZE and K whose models choose for RAFT; empty: none
: "${SAMPLING:=--model tiny --max-tokens 160}"  # more flags of sample, rollout and rlhf
: "${SOLUTION_TEMPERATURE:=1}"
: "${TRAINING:=--base tiny --save-steps 0}"     # more flags of train
: "${RAFT_FLAGS:=--limit 100 -n 16 --iterations 1 --lr 3e-4 --batch-size 32}"
: "${SCRIPTS:=}"                                # scripts/ of the repository: adds exact figures, of tiny only
: "${LEAST:=1e-3}"                              # they are of all solutions above this probability
: "${JOBS:=2}"                                  # models at a time

run=${1:-runs/study}
mkdir -p "$run"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export here TRAIN SOLUTIONS STEPS BATCH LR RAFT SAMPLING TRAINING RAFT_FLAGS SCRIPTS
cd "$run"
step() { printf '\n== %5d s  %s\n' "$SECONDS" "$*" >&2; }

step "Candidates: $CANDIDATES solutions of each of $PROBLEMS test problems, at temperature $TEMPERATURE"
erprm convert -q "$TEST" -L "$PROBLEMS" > test.jsonl
erprm sample -q test.jsonl $SAMPLING -n "$CANDIDATES" --temperature "$TEMPERATURE" -o candidates.jsonl

step "Reference: one solution of each test problem, with $REFERENCE completions after every step"
erprm sample -q test.jsonl $SAMPLING -n 1 --temperature "$SOLUTION_TEMPERATURE" --seed 1000 -o reference-solutions.jsonl
erprm rollout -q reference-solutions.jsonl $SAMPLING -k "$REFERENCE" --seed 1000 -o reference.jsonl

trees=()
if [ -n "$SCRIPTS" ]; then
    step "Trees: all solutions of each test problem above a small probability"
    python "$SCRIPTS/tiny_trees.py" test.jsonl --least "$LEAST" -o trees.jsonl
    trees=(trees.jsonl)
fi
python "$here/study_pool.py" "$TEMPERATURE" candidates.jsonl reference.jsonl "${trees[@]}"

# data SEED: solutions of the training problems, and completions after every step
data() {
    local seed=$1 k source=solutions-$1.jsonl
    erprm sample -q train.jsonl $SAMPLING -n "$SOLUTIONS" --temperature "$SOLUTION_TEMPERATURE" --seed "$seed" -o "$source"
    for k in $KS; do
        if [ "$k" = exact ]; then # success rates without noise, of the trees (scripts/study_exact_rates.py)
            python "$SCRIPTS/tiny_trees.py" train.jsonl -o train-trees.jsonl
            python "$SCRIPTS/study_exact_rates.py" "$source" train-trees.jsonl > "rollouts-$seed-exact.jsonl"
            continue
        fi
        erprm rollout -q "$source" $SAMPLING -k "$k" --seed "$seed" -o "rollouts-$seed-$k.jsonl"
        source=rollouts-$seed-$k.jsonl
    done
}

# model SEED SIZE K LABEL: train a reward model, score the pool of solutions, write the result
model() {
    local seed=$1 size=$2 k=$3 label=$4 name=$4-$2-$3-$1 eta=0 outcome=() more=()
    [ ! -f "result-$name.json" ] || return 0
    case $label in er*) eta=${label#er} ;; hard) eta=inf ;; orm) outcome=(--outcome-only) ;; esac
    LC_ALL=C sort "rollouts-$seed-$k.jsonl" | sed -n "1,$((size * SOLUTIONS))p" |
        erprm label -q --eta "$eta" -o "labels-$name.jsonl"
    erprm train -q "labels-$name.jsonl" $TRAINING "${outcome[@]}" --seed "$seed" --lr "$LR" --batch-size "$BATCH" \
        --epochs "$(python -c "print($STEPS * $BATCH / ($size * $SOLUTIONS))")" -o "prm-$name" > /dev/null
    erprm score -q pool.jsonl --prm "prm-$name" -o "scores-$name.jsonl.gz"
    gzip -dc "scores-$name.jsonl.gz" | grep '"rollouts"' |
        erprm calibrate -q --against labels --eta "$eta" -o "calibration-$name.jsonl"
    if [ "$RAFT" = "$size $k" ]; then
        erprm rlhf -q "$TRAIN" $SAMPLING $RAFT_FLAGS --prm "prm-$name" --seed "$seed" --eval test.jsonl \
            -o "raft-$name" > /dev/null
        more=("raft-$name/iteration-1/eval.jsonl")
    fi
    python "$here/study_result.py" "$seed" "$size" "$k" "$label" "scores-$name.jsonl.gz" \
        "calibration-$name.jsonl" "${more[@]}" > "result-$name.tmp"
    mv "result-$name.tmp" "result-$name.json"
    rm -rf {labels,calibration}-"$name".jsonl* "prm-$name" "raft-$name"
}
export -f model

erprm convert -q "$TRAIN" | LC_ALL=C sort | sed -n "1,${SIZES##* }p" > train.jsonl
for seed in $SEEDS; do
    step "Seed $seed: solutions of the training problems, and completions after every step"
    data "$seed"
    step "Seed $seed: reward models of ${LABELS// /, } labels, $SIZES problems, K = $KS"
    for size in $SIZES; do
        for k in $KS; do
            for label in $LABELS; do
                # The outcome model reads no rollouts, so one K is enough.
                [ "$label" = orm ] && [ "$k" != "${KS##* }" ] || echo "$seed $size $k $label"
            done
        done
    done | OMP_NUM_THREADS=$((($(nproc) + JOBS - 1) / JOBS)) \
        xargs -r -P "$JOBS" -L 1 bash -euo pipefail -c 'model "$@"' model
    step "Seed $seed: results.jsonl, summary.jsonl, tables.md and figures of all models so far"
    cat policy.json result-*.json > results.jsonl
    [ -z "$SCRIPTS" ] || python "$SCRIPTS/study_search.py" .
    python "$here/study_tables.py" results.jsonl > tables.md
done
cat tables.md
step "done"
