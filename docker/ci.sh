#!/usr/bin/env bash
# What a CI job does in a checkout, through the image: check the machine, pull what exists, dvc repro, push, and write
# the difference of the metrics as Markdown, and the report (report/index.html), where a threshold is missed, too.
# .github/workflows/ and .gitlab-ci.yml call it; it also runs by hand.
# Environment (all optional):
#   IMAGE     the image to run (olivepress:cuda12)
#   GPUS      what docker run --gpus gets (all); empty on a machine without
#   PROFILE   a profile of conf/profile to compose; params.yaml as it stands without it
#   CACHE     the volume or folder that holds DVC's cache (olivepress-cache)
#   PUSH      1 to dvc push what was made
#   BASELINE  the revision that the metrics are compared with (HEAD)
#   REPORT    where the Markdown goes (standard output)
#   DOCKER, DOCKER_OPTIONS   the client; further options of docker run, e.g. a mount for a remote that is a folder
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--rm --read-only --user "$(stat -c %u:%g .)" --shm-size 2g -v "$PWD:/repo" -v "${CACHE:-olivepress-cache}:/cache")
[ -z "${GPUS-all}" ] || options+=(--gpus "${GPUS-all}")
# the credentials that DVC's remotes and the hub read from the environment, if the job has them
for name in AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_ENDPOINT_URL AWS_DEFAULT_REGION \
  AZURE_STORAGE_CONNECTION_STRING AZURE_CLIENT_ID AZURE_CLIENT_SECRET AZURE_TENANT_ID HF_TOKEN; do
  [ -z "${!name-}" ] || options+=(--env "$name")
done
# shellcheck disable=SC2086 # several options in one variable
press() { ${DOCKER:-docker} run "${options[@]}" ${DOCKER_OPTIONS-} "${IMAGE:-olivepress:cuda12}" "$@"; }

[ -z "${PROFILE-}" ] || press params "profile=$PROFILE"
press doctor
remote=$(press dvc config core.remote || true)
if [ -n "$remote" ]; then press dvc pull --allow-missing --run-cache; fi
# the first push to a branch has no revision before it
baseline=$(press git rev-parse --quiet --verify "${BASELINE:-HEAD}^{commit}" || press git rev-parse HEAD)
failed=0
press dvc repro || failed=$?
press report --rev "$baseline" || [ $failed != 0 ]
[ $failed = 0 ] || exit $failed
if [ -n "$remote" ] && [ "${PUSH-}" = 1 ]; then press dvc push --run-cache; fi
{
  echo "### Metrics against ${baseline:0:12}"
  echo
  press dvc metrics diff --md "$baseline" --targets results/quality
} > "${REPORT:-/dev/stdout}"
