"""Entry point of `python -m runmem` and of the command `runmem`."""

from runmem.start_signals import exit_on_signals

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit, see `runmem.cli.main`."""
    exit_on_signals()  # before the slow imports
    from runmem.cli import main as command

    command()


if __name__ == "__main__":
    main()
