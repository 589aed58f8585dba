"""``python -m tl_runner.similarity``, as ``tl-similarity``."""

from tl_runner.cli.similarity import main

if __name__ == "__main__":
    main()
