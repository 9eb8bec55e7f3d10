"""`python -m vlmsift.cli`."""

from vlmsift.cli import main

main()
