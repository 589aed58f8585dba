"""``python -m tl_runner.predict``, as ``tl-predict``."""

from tl_runner.cli.predict import main

if __name__ == "__main__":
    main()
