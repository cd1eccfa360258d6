"""The report: one HTML page about one run, for people who do not run the pipeline."""
