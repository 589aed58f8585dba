"""``python -m tl_runner.alike``, as ``tl-similarity``."""

from tl_runner.cli.similarity import main

if __name__ == "__main__":
    main()
