"""``tl-run method=dann --help``: a choice's own page."""

from __future__ import annotations

import pytest

from tl_runner.cli import choice_help, help
from tl_runner.cli.help import GROUPS, choices
from tl_runner.config.paths import CONF_DIR


def test_a_choices_page_has_its_words_its_paper_its_command_and_its_keys(tl_run):
    ended = tl_run("method=adda", "--help")
    assert ended.code == 0
    for part in (
        "ADDA: a target encoder learns to fool",
        "tl-run method=adda data=mnist2usps",
        '"Adversarial Discriminative Domain Adaptation"',
        "method.adapt.gate = 0.6",
        "above this,",
        "method.pretrain: as train has them: optimizer.name, optimizer.lr",
    ):
        assert part in " ".join(ended.out.split()), part


def test_every_choice_has_a_page_no_wider_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for group in GROUPS:
        for name, line in choices(group, CONF_DIR):
            page = choice_help.text([(group, name)])
            assert line.split()[0] in page
            wide = [row for row in page.splitlines() if len(row) > 80]
            # commands and tables stay on their lines
            assert all("  " in row for row in wide), (group, name, wide)


def test_several_choices_and_ones_own(tl_run, tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text(
        "# My variant.\ndefaults: [dann]\nfoo: 3  # mine\n"
    )
    ended = tl_run("method=mine", "data=folder", "seed=3", "--help", "--config-dir", str(tmp_path))
    assert ended.code == 0, ended.text
    assert "My variant." in ended.out
    assert "method.foo = 3" in ended.out
    assert "method.weight = 1.0" in ended.out  # of dann, which it is built on
    assert "data.target_dir has to be given" in ended.out


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("methd=dann", "methd=dann: there is no such group. Did you mean 'method'?"),
        ("method=", "method=: name a choice"),
    ],
)
def test_a_word_that_names_nothing_is_no_request_for_the_whole_help(tl_run, word, said):
    ended = tl_run(word, "--help")
    assert ended.code == 2
    assert said in ended.err


def test_the_key_that_has_to_be_given_is_there(tl_run):
    assert "backbone.name has to be given" in tl_run("backbone=text", "--help").out
    assert "backbone.name = resnet18" in tl_run("backbone@teacher=timm", "--help").out


@pytest.mark.parametrize("word", ["method=danm", "method=_adaptation"])
def test_an_unknown_choice_is_named_with_the_nearest(tl_run, word):
    ended = tl_run(word, "--help")
    assert ended.code == 2
    assert "there is no such choice" in ended.err
    assert "danm" not in word or "Did you mean 'dan" in ended.err


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_whole_help_fits_the_terminal_that_it_is_printed_to(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    wide = [row for row in help.text().splitlines() if len(row) > columns]
    assert not wide
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert max(map(len, help.text().splitlines())) > columns  # a pipe gets a choice a line
