#!/usr/bin/env bash
# Prepares this folder for `docker compose up`: .env with secrets, the host's folders, an empty registry. Run it again whenever
# you like: what is there stays as it is, what is missing is made. No secret is printed.
#
#   ./init.sh          the server on the processor
#   ./init.sh --gpu    the server on a GPU
set -euo pipefail
umask 077
cd "$(dirname "$0")"

profile=cpu
case "${1:-}" in
  '') ;;
  --gpu) profile=gpu ;;
  *)
    echo "usage: $0 [--gpu]" >&2
    exit 2
    ;;
esac

# The value of a variable in .env.
value() { sed -n "s/^$1=//p" .env | head -n 1; }

# Writes a variable of .env: the line that is there, or a new one. It goes through the environment: arguments can be seen in the
# list of processes.
put() {
  NAME=$1 VALUE=$2 awk '
    index($0, ENVIRON["NAME"] "=") == 1 { print ENVIRON["NAME"] "=" ENVIRON["VALUE"]; done = 1; next }
    { print }
    END { if (!done) print ENVIRON["NAME"] "=" ENVIRON["VALUE"] }
  ' .env >.env.new
  mv .env.new .env
}

secret() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# Who the containers run as: you; with sudo who called it; as root itself the number that the image has.
owner=$(id -u)
group=$(id -g)
if [ "$owner" = 0 ]; then
  owner=${SUDO_UID:-10001}
  group=${SUDO_GID:-10001}
fi

if [ -e .env ]; then
  # An .env of an older version: what it lacks keeps the meaning it had.
  added=()
  while IFS='=' read -r name default; do
    case "$name" in '' | '#'* | OUTCROP_TOKEN) continue ;; esac
    if ! grep -q "^$name=" .env; then
      if [ "$name" = COMPOSE_PROFILES ]; then default=; fi
      put "$name" "$default"
      added+=("$name")
    fi
  done <.env.example
  [ ${#added[@]} -eq 0 ] || echo "added to .env: ${added[*]}"
else
  cp .env.example .env
  put COMPOSE_PROFILES "$profile"
  put APP_UID "$owner"
  put APP_GID "$group"
  cores=$(getconf _NPROCESSORS_ONLN)
  put MILVUS_CPUS "$cores"
  put APP_CPUS "$cores"
  echo "made .env (profile $profile)"
fi
if [ "${1:-}" = --gpu ] && [ "$(value COMPOSE_PROFILES)" != gpu ]; then
  echo ".env says COMPOSE_PROFILES=$(value COMPOSE_PROFILES): it stays so. Write COMPOSE_PROFILES=gpu there for the GPU" >&2
fi
made=()
for name in MILVUS_ROOT_PASSWORD MILVUS_USER_PASSWORD S3_ACCESS_KEY S3_SECRET_KEY SERVE_TOKEN; do
  if [ -z "$(value "$name")" ]; then
    put "$name" "$(secret)"
    made+=("$name")
  fi
done
chmod 600 .env
[ ${#made[@]} -eq 0 ] || echo "made secrets in .env, which only you can read: ${made[*]}"

folders=()
for name in DATASET_HOST REFERENCE_HOST EXPORT_HOST QUERY_HOST WEIGHTS_HOST TLS_HOST CLIENT_TLS_HOST; do
  folder=$(value "$name")
  if [ ! -d "$folder" ]; then
    (umask 022 && mkdir -p "$folder")
    [ "$(id -u)" != 0 ] || chown "$owner:$group" "$folder"
    folders+=("$folder")
  fi
done
[ ${#folders[@]} -eq 0 ] || echo "made folders: ${folders[*]}"
registry=$(value REGISTRY_HOST)
if [ ! -e "$registry" ]; then
  (umask 022 && mkdir -p "$(dirname "$registry")" && printf '{\n  "datasets": {}\n}\n' >"$registry")
  [ "$(id -u)" != 0 ] || chown "$owner:$group" "$registry"
  echo "made an empty registry: $registry"
fi

app="app-cpu"
case "$(value COMPOSE_PROFILES)" in *gpu*) app="app" ;; esac
cat <<NEXT

Next, in $PWD:
  1. docker compose build $app          builds Outcrop's image; docs/operations.md says how large it is
  2. docker compose run --rm demo          first look: a small world, without a server; then open $(value EXPORT_HOST)/demo/report.html
  3. docker compose up -d --wait           starts Milvus
  4. docker compose run --rm milvus-user   makes Outcrop's own user in Milvus (once)
  5. A folder of photographs, with any names, into $(value DATASET_HOST), say as photos
  6. docker compose run --rm $app ingest images /opt/datasets/photos
     What should have captures, altitudes and names of its own goes into $registry ("Your own pictures" in README.md).
  7. A photograph into $(value QUERY_HOST), then: docker compose run --rm $app query image /queries/photo.jpg --report /exports/report.html

Weights: those of efficientnet_lite0, the model in .env, come with the image. DINOv3 and DINOv2 see more; they are published by Meta,
under licences that you accept there. Put the files into $(value WEIGHTS_HOST) as they come, and name the model in OUTCROP_MODEL of
.env before the first ingest (docs/models.md).
NEXT
