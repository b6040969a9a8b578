"""`python -m squall`."""

from squall.chaos.cli import main

if __name__ == "__main__":
    main()
