"""`python -m vlmsift`."""

from vlmsift.cli import main

main()
