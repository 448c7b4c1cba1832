"""Entry points of `python -m runmem` and of the commands `runmem` and `runcompss`."""

from runmem.start_signals import exit_on_signals

__all__ = ["main", "runcompss"]


def main() -> None:
    """Run the command line and exit, see `runmem.cli.main`."""
    exit_on_signals()  # before the slow imports
    from runmem.cli import main as command

    command()


def runcompss() -> None:
    """Run a command line of COMPSs and exit, see `runmem.cli.runcompss`."""
    exit_on_signals()
    from runmem.cli.runcompss import main as command

    command()


if __name__ == "__main__":
    main()
