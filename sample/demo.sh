#!/usr/bin/env bash
# The main job on the sample world, in demo/ or the folder given: run by `make demo`, which sets up the environment first, and in
# the container image as `outcrop-demo FOLDER`.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
if [ -x "$root/.venv/bin/outcrop" ]; then export PATH="$root/.venv/bin:$PATH"; fi
world="${1:-$root/demo}"
# Whatever the caller's settings are, the demo keeps to its own folder.
for name in $(compgen -e | grep '^OUTCROP_' || true); do unset "$name"; done

printf '\n$ python3 -m outcrop.sample %s\n' "$world"
python3 -m outcrop.sample "$world"
cd "$world"
printf '\n$ cd %s\n' "$world"
export OUTCROP_MODEL=efficientnet_lite0
printf '$ export OUTCROP_MODEL=efficientnet_lite0\n'
photo=$(find queries -name '*.jpg' | sort | head -n 1)

# The commands below as they would be typed, one after the other in one process: PyTorch is imported once and not eight times.
tour='
import shlex, sys
from outcrop.cli import main
for step in sys.argv[1:]:
    print("\n$", step, flush=True)
    sys.argv = ["outcrop", *shlex.split(step)]
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(end.code)
'
python3 -c "$tour" \
  "ingest dataset jamshill_image" \
  "query image $photo -k 5 --where altitude=200..400 --report report.html" \
  "query item image/jamshill_image/250918092555_300/0012 -k 5 --exclude-self" \
  "query match queries/query_04.jpg queries/query_06.jpg --png match.png" \
  "query evaluate --pictures queries --truth truth.json --report evaluation.html" \
  "ingest specimens specimens --name fossils" \
  "query specimen new_specimens/new_1.ply -k 3" \
  "query cluster --output clusters"
printf '\nOpen the report with pictures: %s\n' "$PWD/report.html"
printf 'and how often answers are right: %s\n' "$PWD/evaluation.html"
printf 'and which fossils are alike:       %s\n' "$PWD/clusters/clusters.html"
printf 'A page to drop a photograph on:    cd %s && OUTCROP_MODEL=efficientnet_lite0 %s serve\n' "$PWD" "$(command -v query)"
printf '                                   then open http://127.0.0.1:8421/\n'
