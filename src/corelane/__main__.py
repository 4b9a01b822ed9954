"""`python -m corelane` is the `corelane` command."""

from corelane.cli import main

if __name__ == "__main__":
    main()
