import io

import rich.console

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
    with progress.bar("candidates", unit="answers") as advance:
        advance(1, 3)
        advance(3, 3)
    said = terminal.getvalue()
    assert "candidates" in said and "3/3" in said and "answers" in said


def test_a_log_gets_a_line_a_minute():
    now, log = [0.0], io.StringIO()
    advance = progress.lines("answers", rich.console.Console(file=log), unit="calls", clock=lambda: now[0])
    for second in range(0, 200):
        now[0] = float(second)
        advance(second * 10, 6000, "3 failed")
    assert log.getvalue().splitlines() == [
        f"answers: {600 * n:,} of 6,000 calls, 10.0 calls/s, {(6000 - 600 * n) / 600:.0f} min left, 3 failed"
        for n in (1, 2, 3)
    ]
