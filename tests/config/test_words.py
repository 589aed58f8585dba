"""What help says of keys, read as text, is what the composed config has."""

from __future__ import annotations

import pytest

from tl_runner.cli.help import FAMILIES, choices, families
from tl_runner.config import words
from tl_runner.config.compose import check
from tl_runner.config.overrides import walk
from tl_runner.config.paths import CONF_DIR
from tl_runner.errors import ConfigError


def paths(config):
    return {path for path, _ in walk(config)}


def test_every_key_that_help_names_is_one_of_the_config(methods):
    for name, base in methods.items():
        said = words.all_words([CONF_DIR], "method", name)
        assert {word.key for word in said} <= paths(base.own), name
        own = {p for p, v in walk({"method": base.own["method"]}) if not isinstance(v, dict)}
        unsaid = {p for p in own if not any(p == w.key or p.startswith(f"{w.key}.") for w in said)}
        assert unsaid <= {"method", "method.name", "method.needs", "method.search"}, name


def test_a_value_that_a_choice_changes_keeps_its_bases_words():
    said = {word.key: word for word in words.all_words([CONF_DIR], "method", "cdan_e")}
    base = {word.key: word for word in words.all_words([CONF_DIR], "method", "cdan")}
    changed = [key for key in base if key in said and said[key].default != base[key].default]
    assert changed
    assert all(said[key].comment for key in changed if base[key].comment)


def test_every_method_stands_in_one_family():
    found = families(CONF_DIR)
    assert {*found} == {*FAMILIES}
    names = [name for rows in found.values() for name, _ in rows]
    assert sorted(names) == sorted(name for name, _ in choices("method", CONF_DIR))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a: 1  # one", [("x.a", "1", "one")]),
        ("a: 1\n# two", [("x.a", "1", "")]),
        ("a: {b: 2}  # flow", [("x.a", "{b: 2}", "flow")]),
        ("a:  # all\n  b: 2  # one\n  # more", [("x.a", "", "all"), ("x.a.b", "2", "one more")]),
        ("defaults: [c]\nname: d\na: null", [("x.a", "null", "")]),
    ],
)
def test_words_by_hand(tmp_path, line, found):
    file = tmp_path / "c.yaml"
    file.write_text(line, encoding="utf-8")
    assert [(w.key, w.default, w.comment) for w in words.own_words(file, "x.")] == found


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["train.lr=0.1"], "Did you mean 'train.optimizer.lr'?"),
        (["lr=0.1"], "Did you mean 'train.optimizer.lr'?"),
        (["adam.lr=0.1"], "Did you mean 'train.optimizer.lr'?"),
        (["data.targetdir=x"], "Did you mean 'data.target_dir', of data=folder, folder_episodes?"),
        (["method=ADDA"], "method=ADDA: no such method. Did you mean 'adda'? There are"),
        (["method=adda", "method.adapt.gat=1"], "Did you mean 'method.adapt.gate'?"),
    ],
)
def test_the_nearest_key_of_any_choice_comes_first(command, said):
    with pytest.raises(ConfigError) as refused:
        check(command, sweep=False)
    assert said in refused.value.problems[0]


def test_the_index_has_every_key_of_a_groups_choices():
    index = words.index([CONF_DIR], "backbone")
    assert index["backbone.pooling"] == ["text"]
    assert {"timm", "torchvision", "efficientnet_lite0"} <= {*index["backbone.views"]}
