"""`python -m hydrajax.cli` is `hydrajax`."""

from hydrajax import entry

entry.main()
