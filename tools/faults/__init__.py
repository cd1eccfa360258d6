"""Faults in the middle of a run: what is killed, full, locked, broken or changed, and what is left afterwards.

python -m tools.faults (`make faults`) runs the table and ends with counts; docs/faq.md says what a user may rely on.
"""
