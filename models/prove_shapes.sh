#!/bin/sh
# Proves that the published shapes (83.5 M parameters, and the 2023 generation) and the edge shape run as PyTorch runs them:
# seeded random weights, export, import, g_a, h_a and g_s on 256x192. Prints the relative errors; fails above 1e-3.
# Needs models/requirements.txt installed for $PYTHON, 2 GB of disk under $OUT. CI does not run it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
out=${OUT:-$root/export/shapes}
dirs=
for shape in edge full full-2023; do
    "$python" "$root/models/golden.py" "$shape" "$out/$shape"
    dirs=$dirs${dirs:+:}$out/$shape
done
cd "$root"
MLIC_SHAPES=$dirs cargo test --locked --release -p mlic-builder --test it transforms -- --nocapture
