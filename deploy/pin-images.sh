#!/usr/bin/env bash
# Writes images.yml: every image that milvus-compose.yml names without a digest, with the digest its tag has today. From then on
# a tag that moves changes nothing here until this runs again.
#
#   ./pin-images.sh            asks the registries, with docker, skopeo or crane, whichever is there
#   ./pin-images.sh --bases    prints the digests of the Dockerfile's bases, for --build-arg GPU_BASE and CPU_BASE
set -euo pipefail
cd "$(dirname "$0")"

# The digest of an image's tag: that of the list for all platforms.
digest() {
  if command -v crane >/dev/null; then
    crane digest "$1"
  elif command -v skopeo >/dev/null; then
    skopeo inspect --raw "docker://$1" | openssl dgst -sha256 -r | sed 's/^\([0-9a-f]*\).*/sha256:\1/'
  elif command -v docker >/dev/null; then
    docker buildx imagetools inspect "$1" --format '{{.Manifest.Digest}}'
  else
    echo "none of crane, skopeo and docker is installed: install one, and run this again" >&2
    exit 3
  fi
}

pinned() {
  local found
  found=$(digest "$1")
  if ! [[ $found =~ ^sha256:[0-9a-f]{64}$ ]]; then
    echo "$1: no digest, got '$found'" >&2
    exit 3
  fi
  printf '%s@%s' "$1" "$found"
}

if [ "${1:-}" = --bases ]; then
  for name in GPU_BASE CPU_BASE; do
    base=$(sed -n "s/^ARG $name=//p" ../Dockerfile)
    image=$(pinned "${base%@*}")
    printf '%s=%s\n' "$name" "$image"
  done
  exit 0
fi

# A variable of .env, or its default.
setting() {
  local found=
  [ ! -e .env ] || found=$(sed -n "s/^$1=//p" .env | head -n 1)
  printf '%s' "${found:-$2}"
}

version=$(setting MILVUS_VERSION "$(sed -n 's/^MILVUS_VERSION=//p' .env.example)")
attu=$(setting ATTU_VERSION "$(sed -n 's/^ATTU_VERSION=//p' .env.example)")
cpu=$(pinned "milvusdb/milvus:$version")
gpu=$(pinned "milvusdb/milvus:$version-gpu")
page=$(pinned "zilliz/attu:$attu")
cat >images.yml.new <<PINNED
# Written by pin-images.sh on $(date -u +%F). It wins over the images of milvus-compose.yml where COMPOSE_FILE of .env names both.
services:
  standalone-cpu: {image: "$cpu"}
  standalone-gpu: {image: "$gpu"}
  attu: {image: "$page"}
PINNED
mv images.yml.new images.yml
echo "wrote $PWD/images.yml. Now set COMPOSE_FILE=milvus-compose.yml:images.yml in .env (on Windows ; instead of :)"
