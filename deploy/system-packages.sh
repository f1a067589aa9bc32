#!/usr/bin/env bash
# Installs the Debian packages that the file beside this one lists, where this can be done without asking;
# otherwise prints the one line to run. Does nothing where they are there. With `test`, what only tests use: they skip
# where it is missing.
set -euo pipefail
list="$(dirname "$0")/${1:-system}-packages.txt"
if ! command -v dpkg-query >/dev/null; then
  exit 0 # no Debian or Ubuntu: pip's wheels bring what most systems lack
fi
missing=()
while read -r package; do
  [ -n "$package" ] || continue
  # A Python of one's own (pyenv, uv) has venv without Debian's package.
  if [ "$package" = python3-venv ] && "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null; then continue; fi
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done <"$list"
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" = 0 ]; then
  echo "installing system packages: ${missing[*]}" >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "system packages are missing; run this line, then make again:" >&2
  echo "  sudo apt-get install -y ${missing[*]}" >&2
  [ "${1:-system}" = test ] || exit 3
fi
