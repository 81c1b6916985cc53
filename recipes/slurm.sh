#!/usr/bin/env bash
# Train on one or several nodes under Slurm, on all of their GPUs:
#
#     sbatch recipes/slurm.sh --set stages.codes.batch_size=256 --set stages.decoder.batch_size=256 \
#         --set stages.together.batch_size=256
#
# Arguments go to `vqaudio train`. A run that is there is resumed, on as many nodes as there are now. Before its time is up
# the job saves its state and queues again; a node that fails, or a job that takes precedence, costs the steps since the
# last checkpoint.
#
#SBATCH --job-name=vqaudio
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

# The places, which all nodes must see, and what to train. The environment goes before what stands here.
RECIPE=${RECIPE:-librispeech}
CORPUS=${CORPUS:-/shared/data}
RUN_DIR=${RUN_DIR:-/shared/runs/$RECIPE}
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-/shared/cache} # the packed corpus
DEVICE=${DEVICE:-cuda}
PROCESSES=${PROCESSES:-gpu} # on each node: one for each GPU
PORT=${PORT:-29500}

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes%%$'\n'*}
resume=()
if [ -e "$RUN_DIR/recipe.json" ]; then resume=(--resume); fi

requeue=
# The processes finish their step and save, for which torchrun leaves them 30 seconds; srun itself would kill them.
stop() { requeue=1; scancel --signal=TERM "$SLURM_JOB_ID" || kill -TERM "$job" || true; }
trap stop USR1
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # which srun does not take from sbatch by itself

srun --kill-on-bad-exit=1 \
    torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$PROCESSES" \
    --rdzv-id "$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" --rdzv-backend c10d --rdzv-endpoint "$head:$PORT" \
    -m vqaudio train "$RECIPE" --set corpus.path="$CORPUS" --device "$DEVICE" --run-dir "$RUN_DIR" "${resume[@]}" "$@" &
job=$!
status=0
wait "$job" || status=$?
if [ "$requeue" ]; then
    wait "$job" || true # the trap only ended the first wait
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
