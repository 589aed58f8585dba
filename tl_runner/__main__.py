"""``python -m tl_runner`` is ``tl-run``."""

from tl_runner.cli.run import main

if __name__ == "__main__":
    main()
