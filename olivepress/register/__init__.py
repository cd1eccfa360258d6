"""The manifest and the model card of a release."""
