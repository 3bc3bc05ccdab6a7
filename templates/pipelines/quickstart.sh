#!/usr/bin/env bash
# The whole method on the shipped policy, on a CPU: what `make demo` runs.
#
#   bash quickstart.sh [DIR]      # everything is written to DIR (runs/quickstart)
#
# Every command continues from its own output, so the script may be stopped and started again.
# It is also the pattern for a real run: put your policy behind -m, your problems in place of tiny:train.
set -euo pipefail
run=${1:-runs/quickstart}
mkdir -p "$run"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$run"
step() { printf '\n== %4d s  %s\n' "$SECONDS" "$*" >&2; }

step "Solutions: 8 of each of 500 training problems, at the paper's temperature"
erprm sample tiny:train -L 500 -n 8 --temperature 0.7 --max-tokens 160 -o solutions.jsonl

step "Rollouts: 16 completions after every step"
erprm rollout solutions.jsonl -k 16 --max-tokens 160 -o rollouts.jsonl

step "Labels: three estimators of the same rollouts"
erprm label rollouts.jsonl --eta 2 -o er.labels.jsonl
erprm label rollouts.jsonl --estimator soft -o soft.labels.jsonl
erprm label rollouts.jsonl --estimator hard -o hard.labels.jsonl

step "Reward models: one for each estimator, and one that learns the outcome alone"
train=(--base tiny --epochs 3 --lr 1e-3 --batch-size 64 --max-length 512)
for name in er soft hard; do
    erprm train "$name.labels.jsonl" "${train[@]}" -o "prm-$name" > "prm-$name.log.jsonl"
done
erprm train er.labels.jsonl --outcome-only "${train[@]}" -o prm-orm > prm-orm.log.jsonl

step "Candidates: 64 solutions of each of 300 test problems"
erprm sample tiny:test -L 300 -n 64 --temperature 0.7 --max-tokens 160 -o candidates.jsonl

step "Scores, and best-of-n"
for name in er soft hard orm; do
    erprm score candidates.jsonl --prm "prm-$name" -o "$name.scores.jsonl"
done
erprm bon er.scores.jsonl --compare soft.scores.jsonl --compare hard.scores.jsonl \
    --compare orm.scores.jsonl --report report.jsonl -o chosen.jsonl

step "RAFT: the policy learns from the solutions that the ER model prefers"
erprm rlhf tiny:train -L 500 --prm prm-er -n 16 --iterations 1 --lr 3e-4 --batch-size 32 \
    --max-tokens 160 --eval tiny:test -o raft > raft.log.jsonl

step "All of it in one table"
python "$here/quickstart_table.py" report.jsonl raft
step "done"
