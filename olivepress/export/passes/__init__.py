"""Changes to an exported graph, each an onnx-ir pass over a loaded model; surgery.py, above, puts them in order."""
