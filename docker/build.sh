#!/usr/bin/env bash
# Build an image: docker/build.sh cuda12|cpu|serve|serve-cuda12 [option of docker build …]
# Environment: IMAGE (the tag), BASE (the image to build on), DOCKER (the client).
# pip's configuration and CA bundle of this machine go in as build secrets and are in no layer.
set -euo pipefail
cd "$(dirname "$0")/.."
cuda=nvidia/cuda:12.8.1-base-ubuntu24.04 debian=debian:12-slim
case "${1-}" in
  cuda12) lock=docker/requirements-cuda12.txt base=${BASE:-$cuda} tag=olivepress:cuda12 ;;
  cpu) lock=requirements.txt base=${BASE:-$debian} tag=olivepress:cpu ;;
  serve) lock=docker/serve/requirements.txt base=${BASE:-$debian} tag=olivepress-serve:cpu ;;
  serve-cuda12) lock=docker/serve/requirements-cuda12.txt base=${BASE:-$cuda} tag=olivepress-serve:cuda12 ;;
  *)
    echo "usage: docker/build.sh cuda12|cpu|serve|serve-cuda12 [option of docker build …]" >&2
    exit 2
    ;;
esac
file=docker/Dockerfile
case "$1" in serve*) file=docker/serve/Dockerfile ;; esac
shift
secrets=$(mktemp -d)
trap 'rm -r "$secrets"' EXIT

# What of pip's configuration means something in the build: not the files and folders of this machine.
configured=$({ .venv/bin/pip config list || python3 -m pip config list; } 2>/dev/null || true)
pip_setting() { # one value: the environment's before the files'
  sed -nE "s/^(:env:|install|global)\\.$1='(.*)'\$/\\2/p" <<< "$configured" | head -n 1 | sed 's/\\n/ /g'
}
{
  echo "[global]"
  for key in index-url extra-index-url trusted-host proxy default-timeout; do
    value=$(pip_setting $key | tr -s ' ' '\n' | sed '/^file:/d' | paste -s -d ' ')
    [ -z "$value" ] || echo "$key = $value"
  done
} > "$secrets/pip.conf"
options=(--secret "id=pip.conf,src=$secrets/pip.conf")
ca=$(pip_setting cert)
ca=${ca:-${SSL_CERT_FILE-}}
if [ -n "$ca" ]; then
  echo "cert = /run/secrets/ca" >> "$secrets/pip.conf"
  options+=(--secret "id=ca,src=$ca")
fi

# Wheels that pip is told to prefer on this machine and that the lock names (a torch without CUDA, say).
read -r -a folders <<< "$(pip_setting find-links)"
for folder in "${folders[@]}"; do
  if [ -d "$folder" ]; then
    sed -nE 's/^([A-Za-z0-9._-]+)==([^ ;]+).*/\1 \2/p' "$lock" | tr -- - _ | while read -r name version; do
      for wheel in "$folder/$name-$version"[-+]*.whl; do
        if [ -e "$wheel" ]; then cp -lu "$wheel" docker/wheels/ 2>/dev/null || cp -u "$wheel" docker/wheels/; fi
      done
    done
  fi
done

describe() { git "$@" 2>/dev/null || true; }
options+=(
  --build-arg "BASE=$base"
  --build-arg "LOCK=$lock"
  --build-arg "VERSION=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' olivepress/__init__.py)"
  --build-arg "REVISION=$(describe rev-parse HEAD)"
  --build-arg "CREATED=$(describe log -1 --format=%cI)"
  --build-arg "SOURCE=$(describe config --get remote.origin.url | sed 's|//[^/@]*@|//|')"
)
# Host networking: package mirrors and proxies on the loopback interface are reachable, as they are for pip outside.
DOCKER_BUILDKIT=1 ${DOCKER:-docker} build --network host --progress plain "${options[@]}" \
  -t "${IMAGE:-$tag}" -f "$file" "$@" .
