"""`python -m diva` is `diva`."""

from diva.cli import main

if __name__ == "__main__":
    main()
