"""The query alone."""

from hydrajax.prompting.contract import Strategy


class ZeroShot(Strategy):
    """Shows nothing of the user."""

    personal = False


STRATEGY = ZeroShot()
