#!/bin/sh
# Trains the demonstration model with sound on two cores and writes its checkpoint: ltx2/train.sh [build folder] [target]
# Started again after an interruption, it goes on where it was. To end it early, stop the python processes with SIGTERM.
set -e
cd "$(dirname "$0")/.."
out=${1:-build/ltx2}
target=${2:-../../checkpoints/demo-ltx2}
python=${PYTHON:-python}

"$python" -m ltx2.train_video_vae --out "$out" &
pictures=$!
"$python" -m ltx2.train_audio_vae --out "$out"
"$python" -m ltx2.train_vocoder --out "$out"
wait $pictures

"$python" -m ltx2.train_video_vae --out "$out" --decoder --steps 1500 --lr 1e-3 &
pictures=$!
"$python" -m ltx2.train_transformer --out "$out" --threads 1
wait $pictures

"$python" -m ltx2.export --from "$out" --to "$target"
"$python" -m ltx2.evaluate --checkpoint "$target"
