#!/usr/bin/env bash
# A Debian base image where none can be pulled: a debootstrap root, imported. Needs root, debootstrap and Docker.
set -euo pipefail
image=${1:-olivepress-stand-in:bookworm}
docker=${DOCKER:-docker}
if ! $docker image inspect "$image" >/dev/null 2>&1; then
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  debootstrap --variant=minbase bookworm "$root" >&2
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/bootstrap.log  # which names this machine's folders
  tar -C "$root" -c . | $docker import - "$image" >&2
fi
echo "$image"
