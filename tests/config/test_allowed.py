"""What a value may be stands with its key: ``allowed:`` in the YAML of a method, a data set, a
backbone."""

from __future__ import annotations

import pytest

from tl_runner.config.compose import check
from tl_runner.config.overrides import paths, plain
from tl_runner.config.values import problem, rule_of
from tl_runner.errors import ConfigError


@pytest.mark.parametrize(
    ("said", "right", "wrong", "message"),
    [
        (["a", "b"], ["a"], ["c", None, 1], "one of a, b"),
        (["a", None], ["a", None], ["b"], "null or one of a"),
        ([True, False], [True], [1], "one of true, false"),
        ("whole >= 1", [1, 9], [0, 1.5, True, None], "a whole number of at least 1"),
        ("whole 2..5", [2, 5], [1, 6], "a whole number of at least 2 and at most 5"),
        ("number > 0", [0.1, 3], [0, -1, "x"], "a number above 0"),
        ("number > 0 and <= 1", [1, 0.5], [0, 1.1], "a number above 0 and at most 1"),
        ("number 0..1 or null", [0, 1, None], [2], "null or a number of at least 0 and at most 1"),
        ("number", [-3.5, 1e9], ["x", float("nan")], "a number"),
        ("pair of number", [[1, 2]], [[1], 1], "a list of two: a number each"),
        ("list of number > 0", [[], [1]], [[0], 1], "a list: a number above 0 each"),
        ("non-empty list of whole >= 1", [[1]], [[], [0]], "a list of one or more"),
        ("some of a, b", [["a"], ["b", "a"]], [[], ["a", "a"], ["c"]], "one or more of a, b"),
        ("names or null", [["x"], None], [[], ["x", "x"], "x"], "null or a list of names"),
        ("path", ["x/y"], ["", 1], "a path"),
    ],
)
def test_the_language_of_rules(said, right, wrong, message):
    rule = rule_of(said)
    assert [rule(value) for value in right] == [None] * len(right)
    for value in wrong:
        assert message in str(rule(value))


@pytest.mark.parametrize(
    "said", ["nmber > 0", "whole >= x", "number 1", "", 3, [], [{"a": 1}], {"a": 1}, "list of"]
)
def test_what_is_no_rule_is_no_rule(said):
    with pytest.raises(ValueError, match=r".*"):
        rule_of(said)


def test_a_word_of_one_method_is_refused_by_another(methods):
    """Every word of every choice-list against every other method that has a key of that name."""
    lists = {
        name: {
            key: said
            for key, said in base.notes["allowed"].get("method", {}).items()
            if isinstance(said, list)
        }
        for name, base in methods.items()
    }
    words: dict[str, list] = {}
    for said in lists.values():
        for key, options in said.items():
            words.setdefault(key, []).extend(options)
    assert {"weighting", "learner", "estimator", "bn", "kernel"} <= words.keys()
    refused = set()
    for name, said in lists.items():
        for key, options in said.items():
            for word in words[key]:
                right = any(word == one and type(word) is type(one) for one in options)
                path = f"method.{key}"
                complaint = problem(path, word, None, methods[name].rules[path])
                assert (complaint is None) is right, (name, key, word)
                refused |= set() if right else {(name, key, word)}
    assert ("multitask", "weighting", "gate") in refused
    assert ("multi_teacher", "weighting", "dwa") in refused
    assert len(refused) >= 10


def test_every_key_with_the_same_name_has_a_rule_or_words_of_its_own(methods):
    """A key that is a choice in one method is no free text in another."""
    for key in ("weighting", "learner", "estimator", "bn", "kernel", "task_batching", "form"):
        for name, base in methods.items():
            if key in base.bare["method"]:
                assert f"method.{key}" in base.rules, (name, key)


def test_every_default_is_allowed(methods, data_sets, backbones):
    for base in (*methods.values(), *data_sets.values(), *backbones.values()):
        assert not base.problems
        for path, rule in base.rules.items():
            value = base.known.get(path, "???")
            if value != "???" and "${" not in str(value):
                assert rule(value) is None, (base.choices, path)


def test_rules_are_no_part_of_the_config(methods, data_sets):
    for base in (*methods.values(), *data_sets.values()):
        for content in (plain(base.config), base.bare):
            assert not {"allowed", "only_with"} & {p.split(".")[-1] for p in paths(content)}


@pytest.fixture
def mine(tmp_path):
    """``mine(text)``: a folder of configs with a method of the user's."""

    def write(text):
        (tmp_path / "method").mkdir(exist_ok=True)
        (tmp_path / "method" / "mine.yaml").write_text(text)
        return str(tmp_path)

    return write


def said_of(mine, text, *words):
    try:
        check(["method=mine", *words], sweep=False, config_dir=mine(text))
    except ConfigError as error:
        return "\n".join(error.problems)
    return ""


def test_a_users_method_may_call_its_values_as_it_likes(mine):
    own = (
        "defaults: [source_only, _self_]\nkernel: laplace\ngamma: 5\nweighting: mine\n"
        "temperature: -3\nmomentum: big\n"
    )
    assert said_of(mine, own) == ""


def test_a_user_may_say_what_values_may_be(mine):
    own = (
        "defaults: [source_only, _self_]\nkernel: laplace\ninner: {steps: 3}\n"
        "allowed:\n  kernel: [laplace, gauss]\n  inner.steps: whole >= 1\n"
    )
    assert said_of(mine, own) == ""
    assert "one of laplace, gauss. Did you mean 'laplace'?" in said_of(
        mine, own, "method.kernel=laplac"
    )
    assert "method.inner.steps=0 should be a whole number" in said_of(
        mine, own, "method.inner.steps=0"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("allowed: 3\n", "should be a section"),
        ("width: 3\nallowed: {width: nmber > 0}\n", "'nmber > 0' is no rule. Write a list"),
        ("width: 3\nallowed: {widht: whole >= 1}\n", "Did you mean 'width'"),
        ("width: 3\nonly_with: 3\n", "should be a section"),
        ("width: 3\nonly_with: {width: kernel}\n", "'kernel' is no condition"),
        ("width: 3\nonly_with: {widht: width=3}\n", "Did you mean 'width'"),
    ],
)
def test_malformed_rules_name_the_file_and_the_cure(mine, text, said):
    found = said_of(mine, "defaults: [source_only, _self_]\n" + text)
    assert said in found
    assert "method/mine.yaml" in found


def test_the_command_and_presets_bring_no_rules(mine, tmp_path):
    assert "no such key" in said_of(mine, "defaults: [dann]\n", "method.allowed=x")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "loose.yaml").write_text(
        "# @package _global_\nmethod: {allowed: {weight: number}}\n"
    )
    found = said_of(mine, "defaults: [dann]\n", "experiment=loose")
    assert "set by a preset" in found


def test_shared_keys_are_known_by_their_section(methods):
    rules = methods["adda"].rules
    for path in ("train.optimizer.lr", "method.adapt.discriminator_optimizer.lr"):
        assert rules[path](0) == "a number above 0"
    for path in ("train.epochs", "method.adapt.epochs"):
        assert rules[path](0) is not None
    assert rules["method.pretrain.epochs"](0) is None
    assert rules["teacher.bn"]("x") is not None
    assert "method.adapt.epochs" in methods["adabn"].rules
