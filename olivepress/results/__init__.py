"""What lies in results/, params.yaml and dvc.lock, read for people: by the summary, the page and the exporters."""
