"""`python -m runmem`, and the command `runmem`."""

from runmem.start_signals import end_at_once_by_signals

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit; see `runmem.cli.main`."""
    end_at_once_by_signals()  # before the rest is imported
    from runmem.cli import main as command

    command()


if __name__ == "__main__":
    main()
