"""`python -m runmem`, and the commands `runmem` and `runcompss`."""

from runmem.start_signals import end_at_once_by_signals

__all__ = ["main", "runcompss"]


def main() -> None:
    """Run the command line and exit; see `runmem.cli.main`."""
    end_at_once_by_signals()  # before the rest is imported
    from runmem.cli import main as command

    command()


def runcompss() -> None:
    """Run a command line as users of COMPSs type it, and exit; see `runmem.cli.runcompss`."""
    end_at_once_by_signals()
    from runmem.cli.runcompss import main as command

    command()


if __name__ == "__main__":
    main()
