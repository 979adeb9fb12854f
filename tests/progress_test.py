import io

from hydrajax import progress


def test_quiet_where_nobody_watches(capfd):
    with progress.bar("stage") as advance:
        advance(1, 3)
        advance(3, 3)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_sees_counts_and_nothing_stays_behind(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with progress.bar("candidates") as advance:
        advance(1, 3)
        advance(3, 3)
    said = terminal.getvalue()
    assert "candidates" in said and "3/3" in said
