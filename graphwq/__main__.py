"""``python -m graphwq``."""

from graphwq.cli.main import entry

if __name__ == "__main__":
    raise SystemExit(entry())
