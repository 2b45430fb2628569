#!/bin/sh
# gpu.sh TILES OUT MINUTES [CHECKPOINT [OPTION...]]: trains on one GPU and leaves in OUT mean.pt.0, .1, ... (float16, parts of 15 MiB), eval.json, log-0.jsonl, run.txt.
# Starts with the block transform when there is no checkpoint. A checkpoint in parts is named without the number. Options are those of train.py. PYTHON: the interpreter.
set -eu
here=$(dirname "$0") tiles=$1 out=$2 minutes=$3 checkpoint=${4:-}
shift "$(($# < 4 ? $# : 4))"
mkdir -p "$out"
"${PYTHON:-python3}" -c 'import sys
try:
    import torch, numpy, PIL
except ImportError as e:
    sys.exit(f"needed: torch, numpy, pillow: {e}")
print("torch", torch.__version__, "GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else "none")' 2>&1 | tee "$out/run.txt"
"${PYTHON:-python3}" "$here/train.py" --tiles "$tiles" --out "$out" --minutes "$minutes" ${checkpoint:+--resume "$checkpoint"} --device cuda --bytes \
    --batch 32 --size 256 --shrink 0.5 --detail 0.5 --last-part 0.15 --last-size 320 --last-batch 20 --lr 8e-4 --lr-transforms 1.2e-4 --lr-branches 8e-4 \
    --lr-hyper 1.5e-4 --warmup 300 --flat 0.35 --final 0.01 --horizon 700 --exchange 20 --log-steps 50 --save-minutes 2.4 --eval-count 32 --split-mib 15 "$@" >> "$out/run.txt" 2>&1 ||
    { tail -n 20 "$out/run.txt"; exit 1; }
tail -n 3 "$out/log-0.jsonl"
