"""tl-run: transfer-learning experiments in PyTorch from one command line."""

__version__ = "0.1.0"
