"""``python -m graphwq``."""

if __name__ == "__main__":
    try:
        from graphwq.cli.main import entry

        status = entry()
    except KeyboardInterrupt:  # while the modules were read: nothing has begun
        status = 130
    raise SystemExit(status)
