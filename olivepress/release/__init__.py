"""Versions: make, verify, list; SBOM, provenance, signatures."""
