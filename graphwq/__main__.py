"""``python -m graphwq``, and what the script ``graphwq`` calls."""


def start() -> int:
    """Run a command; an interrupt while the modules are read is one too."""
    try:
        from graphwq.cli.main import entry

        return entry()
    except KeyboardInterrupt:  # nothing has begun, or all is done
        return 130


if __name__ == "__main__":
    raise SystemExit(start())
