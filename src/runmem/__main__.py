"""`python -m runmem`."""

from runmem.cli import main

if __name__ == "__main__":
    main()
