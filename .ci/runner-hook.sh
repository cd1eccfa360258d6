#!/usr/bin/env bash
# For a self-hosted GitHub runner: ends every job that runs for a fork's pull request before its first step. The workflow has
# the same condition, but a pull request can change the workflow; it cannot change this file, if a copy lies on the
# runner's machine, outside of its work folder, and the runner's environment (.env) names it:
#   ACTIONS_RUNNER_HOOK_JOB_STARTED=/opt/runner/runner-hook.sh
# Whatever cannot be told to be the repository's own is refused.
set -euo pipefail
case "${GITHUB_EVENT_NAME-}" in
  push | workflow_dispatch | schedule) exit 0 ;;
  pull_request)
    head=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["pull_request"]["head"]["repo"]["full_name"])' \
      "$GITHUB_EVENT_PATH")
    if [ -n "$head" ] && [ "$head" = "${GITHUB_REPOSITORY-}" ]; then exit 0; fi
    echo "this runner does not run pull requests of $head, a fork of ${GITHUB_REPOSITORY-}" >&2
    ;;
  *) echo "this runner does not run what '${GITHUB_EVENT_NAME-}' starts" >&2 ;;
esac
exit 1
