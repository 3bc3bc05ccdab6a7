#!/usr/bin/env bash
# Several machines behind one address: `vllm serve` with a copy of the model on each GPU, and erprm in front.
#
#   export MODEL=Qwen/Qwen2.5-Math-7B-Instruct TEMPLATE=math-chat
#   sbatch --nodes=4 --gpus-per-node=8 multinode_serve.sh problems.jsonl DIR
#
# The first machine takes all requests on port 8000 and shares them among the copies everywhere. A model that
# needs several GPUs: export TENSOR_PARALLEL=4, and there are fewer copies. One that needs several machines:
# vllm serve with --nnodes, --node-rank and --master-addr instead (see its documentation). More flags for
# vllm serve: export SERVE_FLAGS="--max-model-len 4096".
#
# Without SLURM: start the same two `vllm serve` commands by hand, the headless one on every further machine,
# then run erprm with --base-url http://FIRST:8000/v1 from anywhere. If the server asks for a key (vLLM reads
# VLLM_API_KEY), erprm takes it from ERPRM_API_KEY or OPENAI_API_KEY in the environment, and only from there.
#SBATCH --job-name=erprm-serve
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

model=${MODEL:?a folder or Hub name} template=${TEMPLATE:?as gsm8k-chat or math-chat}
gpus=${SLURM_GPUS_ON_NODE:?how many GPUs each machine has} nodes=${SLURM_NNODES:?how many machines}
tensor=${TENSOR_PARALLEL:-1}
here=$((gpus / tensor)) # copies on each machine
read -r host < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=$(getent ahostsv4 "$host" | awk '{ print $1; exit }') # vllm listens at an address, not at a name
read -ra more <<< "${SERVE_FLAGS:-}"

serve=(
    vllm serve "$model"
    --tensor-parallel-size "$tensor"
    --data-parallel-size "$((here * nodes))"
    --data-parallel-size-local "$here"
    --data-parallel-address "$first"
    --data-parallel-rpc-port 13345
    "${more[@]}"
)
# --wait: when one machine's server has ended, all are ended. vLLM does not notice a copy that is lost on another
# machine, and requests to it would wait for an hour. SLURM_NODEID is known on each machine only.
export here
srun --wait=5 bash -c '
    role=(--port 8000)
    [ "$SLURM_NODEID" = 0 ] || role=(--headless --data-parallel-start-rank "$((SLURM_NODEID * here))")
    exec "$@" "${role[@]}"' serve "${serve[@]}" &
servers=$!
trap 'kill "$servers" 2> /dev/null || true' EXIT

# Loading takes minutes; a server that has ended will never answer.
until curl -fs "http://$first:8000/health" > /dev/null; do
    kill -0 "$servers" || { echo "a server has ended before it was ready" >&2; exit 1; }
    sleep 10
done

problems=$1 run=$2
mkdir -p "$run"
# Requests in flight: a request of `rollout` is 16 completions, and each copy should have twice as many
# waiting as it decodes at once (max_num_seqs, 256 or more).
concurrency=$((here * nodes * 64))
ulimit -n "$(ulimit -H -n)" # each request in flight is a connection
common=(-m "$model" -t "$template" --base-url "http://$first:8000/v1" --concurrency "$concurrency")

# If a server fails, erprm ends with status 4 and its rows are kept: the same job again continues. If a machine
# is lost, SLURM starts the job again by itself.
erprm sample "$problems" "${common[@]}" -n 15 -o "$run/solutions.jsonl"
erprm rollout "$run/solutions.jsonl" "${common[@]}" -k 16 -o "$run/rollouts.jsonl"
erprm label "$run/rollouts.jsonl" --eta 2 -o "$run/labels.jsonl"
