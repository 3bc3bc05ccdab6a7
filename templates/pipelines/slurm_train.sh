#!/usr/bin/env bash
# Training on several machines: accelerate starts a process for each GPU on each of them.
#
#   export CONFIG=fsdp2
#   sbatch --nodes=4 --gpus-per-node=8 slurm_train.sh labels.jsonl -o prm --base meta-llama/Llama-3.1-8B
#
# The arguments are those of `erprm train`; CONFIG is a configuration of accelerate by its shipped name. Rows and
# output are on a file system that all machines share. When a machine is lost, SLURM starts the job again, and it
# continues from its last checkpoint; so does the same command after another failure.
#SBATCH --job-name=erprm-train
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

gpus=${SLURM_GPUS_ON_NODE:?how many GPUs each machine has} nodes=${SLURM_NNODES:?how many machines}
folder=$(python -c 'from importlib.resources import files; print(files("erprm_cli.templates"))')
export MAIN_ADDRESS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export LAUNCH="--config_file $folder/accelerate/${CONFIG:?such as fsdp2}.yaml
    --num_machines $nodes --num_processes $((gpus * nodes)) --main_process_port 29500"

# SLURM_NODEID is known on each machine only.
srun --kill-on-bad-exit=1 bash -c 'accelerate launch $LAUNCH --main_process_ip "$MAIN_ADDRESS" \
    --machine_rank "$SLURM_NODEID" -m erprm_cli train "$@"' train "$@"
