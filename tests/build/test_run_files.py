"""The files that a finished run is taken up from: every value that is not right is named."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
import yaml

from tl_runner.build._run_files import check_plain, read_config, read_outline, read_result
from tl_runner.errors import CheckpointError

RESULT = {
    "status": "done",
    "score": 0.5,
    "metric": "accuracy",
    "choices": {"data": "folder", "method": "finetune"},
    "classes": ["cat", "dog"],
    "outline": {
        "classes": ["cat", "dog"],
        "shape": [3, 64, 64],
        "labelled": True,
        "every_label": False,
        "splits": ["target_train"],
        "sources": [],
        "source_classes": None,
        "also": {},
        "scale": None,
        "pixels": [0.0, 4095.0],
        "inputs": None,
    },
}
DEVICE = {"name": "auto", "precision": "fp32", "channels_last": "auto", "threads": None}
CONFIG = {
    "seed": 0,
    "data": {"name": "folder", "fit": "crop", "augment": {"flip": 0.5}},
    "backbone": {"name": "lenet", "bn": "separate", "weights": None},
    "method": {"name": "finetune"},
    "device": DEVICE | {"compile": False, "cuda_graphs": False},
    "train": {"balance": None},
}
SCALE = {"mean": [1.0, 2], "deviation": [0.5, 1]}
VECTORS = {"outline.shape": [2, 1, 1], "outline.scale": SCALE}
ARRAYS = {"data": {"name": "arrays", "standardise": True}}
FROZEN = VECTORS | {"outline.inputs": [3, 64, 64]}
LEFT_OUT = object()


def changed(content, edits):
    """A copy with other values, by dotted key."""
    content = deepcopy(content)
    for path, value in edits.items():
        *above, key = path.split(".")
        section = content
        for name in above:
            section = section[name]
        section[key] = value
        if value is LEFT_OUT:
            del section[key]
    return content


@pytest.fixture
def taken_up(tmp_path):
    """The outline of a run whose files hold these things."""

    def read(result, config):
        (tmp_path / "result.json").write_text(json.dumps(changed(RESULT, result)))
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(changed(CONFIG, config)))
        found = read_result(tmp_path)
        return read_outline(tmp_path, found, read_config(tmp_path))

    return read


@pytest.mark.parametrize(
    ("result", "config"),
    [
        ({}, {}),
        ({"score": None, "outline.also": {"parity": 2, "weight": 0}}, {"device.threads": 3}),
        ({"classes": [], "outline.classes": []}, {"seed": 10**30}),
        ({f"outline.{key}": LEFT_OUT for key in ("splits", "also", "scale", "inputs")}, {}),
        (VECTORS, ARRAYS),
        ({"outline.shape": [2, 1, 1]}, {"data": {"name": "arrays", "standardise": False}}),
        ({"outline.shape": [10**5, 1, 1]}, {"data": {"name": "arrays"}}),
        (FROZEN, {"backbone.frozen": True}),
        ({}, {"data.name": "my_package.my_data", "data.fit": LEFT_OUT}),
        ({}, {"method.name": "${oc.env:HOME}"}),
    ],
)
def test_what_a_run_has_written_is_taken_as_it_is(taken_up, result, config):
    outline = taken_up(result, config)
    expected = changed(RESULT, result)["outline"]
    assert outline.shape == tuple(expected["shape"])
    assert outline.sources == ()
    assert outline.scale == expected.get("scale")
    assert outline.inputs == (tuple(expected["inputs"]) if expected.get("inputs") else None)


WRONG_RESULT = {
    "classes": ["cat", 3, ["cat", "cat"], ["cat", 1], {"cat": 1}, [["cat"], "dog"], ["dog", "cat"]],
    "choices": [5, None, ["x"], {"method": 3}],
    "metric": [None, 3],
    "score": ["high", float("nan"), True],
    "outline": ["x", 5, [1], {}],
    "outline.classes": [5, "ab", [None, "a"]],
    "outline.shape": [
        *(3, None, "364", [3, 64], [3, 64, 64, 1], ["3", "64", "64"], [3, 64.5, 64]),
        *([-3, 64, 64], [3, 0, 64], [3, True, 64], [3, float("inf"), 64], [3, 10**6, 1]),
        *([10**7, 1, 1], [10**6, 10**3, 10**3]),
    ],
    "outline.labelled": ["x", 1, None],
    "outline.splits": [5, "ab", [1]],
    "outline.sources": [5, None],
    "outline.source_classes": ["abc", 5, ["a", "a"]],
    "outline.also": [5, None, {"a": "b"}, {"a": -1}],
    "outline.scale": [
        *("x", 5, {}, {"mean": [0]}, {"mean": "ab", "deviation": "cd"}, SCALE | {"mean": [0]}),
        *(SCALE | {"deviation": [0, 1]}, SCALE | {"mean": [float("nan"), 1]}),
        *(SCALE | {"mean": [10**400, 0]}, SCALE | {"mean": [[0, 0]]}),
    ],
    "outline.pixels": [5, "ab", {}, [1], [0, 0], [5, 1], ["a", 1], [0, 1, 2], [float("nan"), 1]],
    "outline.inputs": [5, [3, 64], [3, 64, 64]],
    "outline.colour": [1],
}
# what does not go together, and the key that is named
AT_ODDS = [
    ({"outline.shape": [2, 1, 1]}, ARRAYS, "outline.scale=null"),
    (VECTORS, {"data": {"name": "arrays", "standardise": False}}, "outline.scale={"),
    (VECTORS | {"outline.shape": [3, 1, 1]}, ARRAYS, "outline.scale={"),
    ({"outline.scale": SCALE}, {}, "outline.scale={"),
    ({}, {"data": {"name": "arrays"}}, "outline.shape=[3, 64, 64]"),
    ({}, {"backbone.frozen": True}, "outline.inputs=null"),
    (FROZEN | {"outline.scale": None}, {"backbone.frozen": True}, "outline.scale=null"),
    ({"outline.classes": ["cat"]}, {}, "classes=['cat', 'dog'] should be those of outline.classes"),
    ({"outline.shape": LEFT_OUT}, {}, "outline.shape is missing"),
]


@pytest.mark.parametrize(
    ("result", "config", "said"),
    [
        *[({key: value}, {}, key) for key, values in WRONG_RESULT.items() for value in values],
        *AT_ODDS,
    ],
)
def test_a_value_of_the_result_that_is_not_right_is_named(taken_up, tmp_path, result, config, said):
    with pytest.raises(CheckpointError) as error:
        taken_up(result, config)
    text = str(error.value)
    assert text.startswith(f"{tmp_path / 'result.json'} is damaged: ")
    assert said in text
    assert "\n" not in text
    assert len(text) < 400 + len(str(tmp_path))


WRONG_CONFIG = {
    "seed": [True, -1, "x", None, 1.5],
    **{key: [5, None, "x", [1]] for key in ("data", "backbone", "method", "device", "train")},
    **{key: [5, ["a"], LEFT_OUT] for key in ("data.name", "backbone.name", "method.name")},
    "backbone.weights": [5],
    "backbone.bn": ["x"],
    "backbone.frozen": ["x"],
    "backbone.module": [5],
    "data.fit": ["cropped", [1], None],
    "data.standardise": ["x"],
    "data.augment": [5, None],
    "device.name": [["x"], "cud", None, LEFT_OUT],
    "device.precision": ["fp8", None, LEFT_OUT],
    "device.channels_last": ["x"],
    "device.compile": ["x", None],
    "device.cuda_graphs": [1],
    "device.threads": [-3, 0, "x", LEFT_OUT],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG_CONFIG.items() for value in values]
)
def test_a_value_of_the_config_that_is_not_right_is_named(taken_up, tmp_path, key, value):
    with pytest.raises(CheckpointError) as error:
        taken_up({}, {key: value})
    what = " is missing." if value is LEFT_OUT else "="
    assert str(error.value).startswith(f"{tmp_path / 'config.yaml'} is damaged: {key}{what}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("seed: &a 1\n", "line 1 has an anchor or an alias"),
        ("seed: 1\nlist: &a [1]\n", "line 2 has an anchor"),
        ("seed: *a\n", "line 1 has an anchor or an alias"),
        (f"seed: 1\nlist: {'[' * 60}{']' * 60}\n", "nested more than 50 deep"),
        (f"seed: 1\n{'#' * 2**20}\n", "larger than 1 MB"),
        ("seed: !!python/name:os.system\n", "could not determine a constructor"),
        ("a: [1", "expected"),
        ("\0", "not allowed"),
        ("- 1\n", "it has no seed"),
        ("", "it has no seed"),
    ],
)
def test_what_is_no_config_of_a_run(tmp_path, content, said):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(CheckpointError, match="cannot be read as a run's config") as error:
        read_config(tmp_path)
    assert said in str(error.value)


def test_a_number_of_any_length_is_shown_in_a_few_words(tmp_path):
    (tmp_path / "config.yaml").write_text(f"seed: -0x{'f' * 9000}\n")
    with pytest.raises(CheckpointError, match="seed=a int should be a whole number"):
        read_config(tmp_path)


def test_no_reference_of_a_config_is_followed(tmp_path):
    content = changed(CONFIG, {"method.name": "${oc.env:HOME}", "data.name": "${seed}${seed}"})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    found = read_config(tmp_path)
    assert found["method"]["name"] == "${oc.env:HOME}"
    assert found["data"]["name"] == "${seed}${seed}"


def test_as_many_lists_as_a_run_needs_are_no_depth():
    check_plain("a: [[1], [2], [3]]\n" * 60)


@pytest.mark.parametrize("content", ["[1", "[]", "{}", "5", "[" * 100_000, '{"status": "done"'])
def test_a_damaged_result(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"result.json is damaged \("):
        read_result(tmp_path)
