"""``python -m nlme``: the command ``nlme``."""

from nlme.cli import main

if __name__ == "__main__":
    main()
