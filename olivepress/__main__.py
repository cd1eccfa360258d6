"""python -m olivepress: the command line where the package is not installed, in a checkout."""

from olivepress.cli import main

main(prog_name="olivepress")
