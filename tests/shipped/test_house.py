"""The rules that keep the house in order: few modules at the top, flat classes, short lines."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def tool():
    """The script, imported as the scripts import each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        import house

        yield house


def test_at_most_six_modules_at_the_top(tool):
    assert len(tool.House(ROOT).at_the_top()) <= 6


def test_chains_of_classes_are_at_most_three_deep(tool):
    house = tool.House(ROOT)
    chains = {name: house.chain(module) for name, module in house.methods.items()}
    assert {name: chain for name, chain in chains.items() if len(chain) > 3} == {}


def test_no_line_is_over_100_columns(tool):
    assert tool.House(ROOT).long_lines() == []


def test_what_a_made_up_package_holds(tool, tmp_path):
    files = {
        "base.py": '"""A base."""\n\nfrom torch import nn\n\n\n'
        "class Method(nn.Module):\n    pass\n",
        "late.py": "LATE = 1\n",
        "family/__init__.py": "from tl_runner.methods.family._base import Kin\n",
        "family/_base.py": "from tl_runner.methods import base\n\n\nclass Kin(base.Method):\n"
        '    """Kin."""\n\n    x = 1  # one\n',
        "family/own.py": "from tl_runner.methods.family import Kin as K\n\n\nclass Own(K):\n"
        "    def f(self):\n        from tl_runner.methods.late import LATE\n",
    }
    for name, text in files.items():
        file = tmp_path / "tl_runner" / "methods" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "own.yaml").touch()
    (tmp_path / "README.md").write_text(f"{'x' * 101}\n| {'x' * 101} |\n")
    house = tool.House(tmp_path)
    own = house.methods["own"]
    assert house.chain(own) == ["Method", "Kin", "Own"]
    assert house.size(house.closure(own)) == tool.Size(files=4, lines=21, code=11)
    assert len(house.closure(own, everything=True)) == 5
    assert house.long_lines() == ["README.md:1"]
    assert house.long_lines(rows=True) == ["README.md:2"]
    tool.print_figures(house)
