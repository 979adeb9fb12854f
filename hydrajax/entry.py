"""The command `hydrajax`. Importing everything takes seconds, and may be interrupted too."""

import sys


def main() -> None:
    """Imports the command line and runs it."""
    try:
        from hydrajax.cli import main as command
    except KeyboardInterrupt:
        print("hydrajax: interrupted before anything began", file=sys.stderr)
        raise SystemExit(130) from None
    command.main()


if __name__ == "__main__":
    main()
