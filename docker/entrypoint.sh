#!/usr/bin/env bash
# The container's command line (docs/container.md):
#   (nothing)            check the machine, then `olivepress repro`: in the repository at /repo, or in the image's own copy
#   STAGE …              a stage by hand, e.g. `quantize --help`
#   chat …, doctor …, …   a subcommand of olivepress (olivepress --help lists them)
#   anything else        is run as it stands: `dvc pull`, `python …`, `bash`
set -euo pipefail

scratch=/scratch
uid=$(id -u)
export HOME=$scratch/home-$uid TMPDIR=$scratch/tmp
[ -w $scratch ] || {
  echo "olivepress: /scratch cannot be written by uid $uid: mount a volume there that can (or none at all)." >&2
  exit 1
}
mkdir -p "$HOME"
[ -d $TMPDIR ] || mkdir -m 1777 $TMPDIR

# DVC's own files outside the repository; its cache on the volume, unless the repository names another one
export DVC_SITE_CACHE_DIR=$HOME/dvc-site-cache DVC_GLOBAL_CONFIG_DIR=$HOME/dvc
if mountpoint -q /cache; then
  mkdir -p "$DVC_GLOBAL_CONFIG_DIR"
  printf '[cache]\n    dir = /cache\n' > "$DVC_GLOBAL_CONFIG_DIR/config"
fi
if mountpoint -q /models; then export HF_HOME=/models; fi

if [ -e /repo/dvc.yaml ]; then
  cd /repo
else
  if [ ! -e $scratch/olivepress ]; then
    rm -rf $scratch/olivepress.new
    cp -R /opt/olivepress $scratch/olivepress.new
    mv $scratch/olivepress.new $scratch/olivepress
  fi
  cd $scratch/olivepress
fi

# Run a command in a process group of its own and end with its status. On SIGTERM or SIGINT the whole group gets
# SIGINT: DVC then waits for the stage, which removes its partial output, and lets go of its locks; on SIGTERM it would
# die at once and leave both behind. The status is then 128 + the signal's number.
supervise() {
  local child status=0 signalled=
  set -m
  "$@" &
  child=$!
  trap 'signalled=143; kill -INT -- -$child 2>/dev/null' TERM
  trap 'signalled=130; kill -INT -- -$child 2>/dev/null' INT
  while :; do
    status=0
    wait $child || status=$?
    kill -0 $child 2>/dev/null || break # `wait` also returns when a trap has run
  done
  while kill -0 -- -$child 2>/dev/null; do sleep 0.1; done
  exit "${signalled:-$status}"
}

case "${1-}" in
  "")
    python -m olivepress doctor
    exec python -m olivepress repro
    ;;
  --help | --version) exec python -m olivepress "$@" ;;
  dvc)
    case "${2-}" in
      repro | exp) supervise "$@" ;;
      *) exec "$@" ;;
    esac
    ;;
  *)
    stage=${1//-/_}
    if [ -f "stages/$stage.py" ]; then exec python -m "stages.$stage" "${@:2}"; fi
    if python -c 'import sys; from olivepress.cli import words; sys.exit(sys.argv[1] not in words())' "$1"; then
      exec python -m olivepress "$@"
    fi
    command -v "$1" >/dev/null || {
      known=$(cd stages && printf '%s ' [a-z]*.py | sed 's/\.py / /g; s/_/-/g')
      echo "olivepress: $1: neither a stage (${known% }), a subcommand (see --help) nor a command." >&2
      exit 127
    }
    exec "$@"
    ;;
esac
