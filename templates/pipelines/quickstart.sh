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

# Of several models, two work at a time, each with half of the processors.
half=$((($(nproc) + 1) / 2))
by_twos() { printf '%s\n' er soft hard orm | OMP_NUM_THREADS=$half xargs -P 2 -I NAME bash -euc "$1"; }

step "Solutions: 8 of each of 300 training problems"
erprm sample tiny:train -L 300 -n 8 --temperature 1 --max-tokens 160 -o solutions.jsonl

step "Rollouts: 16 completions after every step"
erprm rollout solutions.jsonl -k 16 --max-tokens 160 -o rollouts.jsonl

step "Labels: three estimators of the same rollouts (the outcome model reads the last label alone)"
erprm label rollouts.jsonl --eta 2 -o er.labels.jsonl
erprm label rollouts.jsonl --estimator soft -o soft.labels.jsonl
erprm label rollouts.jsonl --estimator hard -o hard.labels.jsonl
cp er.labels.jsonl orm.labels.jsonl

step "A look at the labelled steps: erprm show $run/er.labels.jsonl shows more"
PAGER=cat erprm show -L 2 er.labels.jsonl

step "Reward models: one for each estimator, and one that learns the outcome alone"
by_twos 'outcome_only=""; [ NAME = orm ] && outcome_only=--outcome-only
    erprm train NAME.labels.jsonl --base tiny --epochs 3 --lr 1e-3 $outcome_only \
        -o prm-NAME > prm-NAME.log.jsonl'

step "Candidates: 64 solutions of each of 200 test problems, at the paper's temperature"
erprm sample tiny:test -L 200 -n 64 --temperature 0.7 --max-tokens 160 -o candidates.jsonl

step "Scores"
by_twos 'erprm score candidates.jsonl --prm prm-NAME -o NAME.scores.jsonl'

step "RAFT: the policy learns from the solutions that the ER model prefers"
erprm rlhf tiny:train -L 300 --prm prm-er -n 16 --iterations 1 --lr 3e-4 --batch-size 32 \
    --max-tokens 160 --eval tiny:test -o raft > raft.log.jsonl

step "The result: % correct by every way of choosing, the differences between the models, and RAFT"
erprm bon er.scores.jsonl --compare soft.scores.jsonl --compare hard.scores.jsonl \
    --compare orm.scores.jsonl --report report.jsonl --plot - -o chosen.jsonl

# The picture of the documentation, of the ER model alone; it needs matplotlib (pip install 'erprm[plot]').
if python -c 'import matplotlib' 2> /dev/null; then
    erprm bon er.scores.jsonl -q --plot accuracy.png > /dev/null
fi

python "$here/quickstart_table.py" report.jsonl raft
step "done"
