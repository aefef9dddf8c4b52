"""`python -m edgemoe` is the command `edgemoe`."""

from edgemoe.cli import main

main()
