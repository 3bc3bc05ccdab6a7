#!/usr/bin/env bash
# The design of study.sh at the paper's scale: a Mistral 7B that solves GSM8K, reward models from Llama 3.1 8B.
#
#   bash study_gsm8k.sh [DIR]    # on a machine with 8 GPUs; DIR: runs/study_gsm8k
#
# It has not been run. docs/study.md has its cost, computed with --dry-run. Nothing is chosen here but what
# depends on the scale; models and flags are those of paper.toml, the paper's protocol. As in study.sh, SIZES,
# KS, LABELS and SEEDS make it smaller, and a stopped run continues.
set -euo pipefail
policy="--model meta-math/MetaMath-Mistral-7B --template metamath"
export TRAIN=hf://openai/gsm8k:main/train TEST=hf://openai/gsm8k:main/test
export SIZES=${SIZES:-900 1800 3600 7200} SOLUTIONS=15 SOLUTION_TEMPERATURE=0.7
export PROBLEMS=1319 CANDIDATES=64 TEMPERATURE=0.7
# One epoch of the largest size; the paper's rate is for one epoch of twice as many solutions.
export STEPS=1688 BATCH=64 LR=5e-7
export SAMPLING="$policy --max-tokens 1024"
export TRAINING="--base meta-llama/Llama-3.1-8B --accelerate-config fsdp2 --num-processes 8"
export RAFT=${RAFT-7200 16}
export RAFT_FLAGS="-n 16 --iterations 1 --epochs 2 --lr 5e-7 --batch-size 128 --accelerate-config fsdp2"
export SCRIPTS= JOBS=1
exec bash "$(dirname "${BASH_SOURCE[0]}")/study.sh" "${1:-runs/study_gsm8k}"
