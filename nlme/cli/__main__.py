"""``python -m nlme.cli``."""

from nlme.cli import main

if __name__ == "__main__":
    main()
