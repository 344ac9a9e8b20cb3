"""`python -m moorage`: the command line, by the interpreter that the caller chose."""

from moorage.cli.main import main

main()
