#!/usr/bin/env bash
# Run the round-trip tests against the real workspace that the environment names. Sign in first (az login).
# Uploads a few megabytes; the model versions that it makes are archived at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
for name in AZURE_SUBSCRIPTION_ID AZURE_RESOURCE_GROUP AZUREML_WORKSPACE_NAME; do
  [ -n "${!name:-}" ] || { echo "$name is not set: it names the workspace to test against" >&2; exit 2; }
done
python -m olivepress azure whoami
OLIVEPRESS_LIVE_AZURE=1 exec pytest tests/azure_ml/test_round_trip.py "$@"
