#!/usr/bin/env bash
# Sampling and rolling out as a SLURM array: each task is one GPU with a share of the problems.
#
#   export MODEL=Qwen/Qwen2.5-Math-7B-Instruct TEMPLATE=math-chat
#   job=$(sbatch --parsable --array=0-15 slurm_array.sh problems.jsonl DIR)
#   sbatch --dependency=afterok:"$job" --wrap "bash slurm_array.sh --join DIR"
#
# A task finds its share by itself: inside an array --shard is I/N of SLURM's numbers, by a hash of the
# problems' ids, so no file is split beforehand and all shares together are the rows of one run without
# --shard. The array must be whole (0-15, 1-16, 0-30:2). For some tasks of it alone, after a failure, say
# which shares they are, as the files' headers do (ID of N here):
#
#   sbatch --array=3,9 --export=ALL,SHARDS=16 slurm_array.sh problems.jsonl DIR
#
# A task that is stopped, requeued or submitted again continues its own files.
#SBATCH --job-name=erprm
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail

if [ "${1:-}" = --join ]; then
    cat "$2"/rollouts-*.jsonl | erprm label --eta 2 -o "$2/labels.jsonl"
    exit
fi
problems=$1 run=$2
model=${MODEL:?a folder or Hub name} template=${TEMPLATE:?as gsm8k-chat or math-chat}
task=${SLURM_ARRAY_TASK_ID:?this script is for sbatch --array}
mkdir -p "$run"
shard=()
[ -z "${SHARDS:-}" ] || shard=(--shard "$task/$SHARDS")

# One file for each task: two tasks that named one file would be refused.
erprm sample "$problems" -m "$model" -t "$template" -n 15 "${shard[@]}" -o "$run/solutions-$task.jsonl"
erprm rollout "$run/solutions-$task.jsonl" -m "$model" -t "$template" -k 16 "${shard[@]}" \
    -o "$run/rollouts-$task.jsonl"
