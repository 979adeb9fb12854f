"""`python -m hydrajax.cli` is `hydrajax`."""

from hydrajax.cli import main

main.main()
