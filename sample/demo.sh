#!/usr/bin/env bash
# The main job on the sample world, in demo/: run by `make demo`, which sets up the environment first.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
# Whatever the caller's settings are, the demo keeps to its own folder.
for name in $(compgen -e | grep '^OUTCROP_' || true); do unset "$name"; done

say() {
  printf '\n$ %s\n' "$*"
  "$@"
}

say python -m outcrop.sample demo
cd demo
printf '\n$ cd demo\n'
export OUTCROP_MODEL=efficientnet_lite0
printf '$ export OUTCROP_MODEL=efficientnet_lite0\n'
say ingest dataset jamshill_image
photo=$(find queries -name '*.jpg' | sort | head -n 1)
say query image "$photo" -k 5 --where altitude=200..400 --report report.html
say query item image/jamshill_image/250918092555_300/0012 -k 5 --exclude-self
say query evaluate --pictures queries --truth truth.json --report evaluation.html
say ingest specimens specimens --name fossils
say query specimen new_specimens/new_1.ply -k 3
say query cluster --output clusters
printf '\nOpen the report with pictures: %s\n' "$PWD/report.html"
printf 'and how often answers are right: %s\n' "$PWD/evaluation.html"
printf 'and which fossils are alike:       %s\n' "$PWD/clusters/clusters.html"
