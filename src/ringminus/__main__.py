"""`python -m ringminus`."""

from ringminus.cli.main import main

main()
