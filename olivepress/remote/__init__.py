"""The team's DVC remote: check, push, pull."""
