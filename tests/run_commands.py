"""Run the commands inside the test's process, as their users would: what they print, and how they refuse."""

from pathlib import Path


def run(main, capsys, *argv) -> str:
    """Run a command that must succeed and return what it printed."""
    code = main([str(a) for a in argv])
    text = capsys.readouterr()
    assert code == 0, text.err
    return text.out


def refused(main, capsys, *argv) -> str:
    """Run a command that must end with code 2 and one line; returns the line."""
    code = main([str(a) for a in argv])
    err = capsys.readouterr().err.strip()
    assert code == 2
    assert err.startswith("error: ")
    assert "\n" not in err
    assert "Traceback" not in err
    return err


def named(text: str, key: str) -> Path:
    lines = [line for line in text.splitlines() if line.startswith(f"{key}: ")]
    assert len(lines) == 1
    return Path(lines[0].partition(": ")[2])
