"""Where the shipped configs are, in a checkout and in an installed wheel."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent.parent
CONF_DIR = next(p for p in (_HERE / "conf", _HERE.parent / "conf") if p.is_dir())
