"""`python -m hydrajax` is `hydrajax`."""

from hydrajax import entry

entry.main()
