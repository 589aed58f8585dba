"""``python -m tl_runner.report`` is ``tl-report``."""

from tl_runner.cli.report import main

if __name__ == "__main__":
    main()
