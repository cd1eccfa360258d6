"""The pipeline on several machines: groups of stages, an engine that places them, DVC's run cache between them."""
