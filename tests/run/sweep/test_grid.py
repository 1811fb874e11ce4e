"""What a grid expands to, against itertools; and which cells the command line leaves."""

from itertools import product
from urllib.parse import unquote

import pytest
import yaml

from depthlab.errors import UserError
from depthlab.run.sweep.grid import axes_of, choose, cover, expand, read_grids
from tests.support import REPOSITORY

GRID = {"data.task": ["rte", "mrpc"], "model.lr": [5e-5, 1], "seed": [0, 1, 2]}
SMALL_AND_LARGE = [{"task": ["rte", "mrpc"], "seed": [0, 1]}, {"task": ["mnli"], "seed": [0]}]


def test_long_values_are_shortened_and_still_tell_cells_apart():
    long = ["/data/" + "x" * 300 + end for end in "ab"]
    axes = {f"data.axis{number}": ["y" * 50] for number in range(8)}
    for grid in ({"data.corpus": long}, {"data.corpus": [{"path": one} for one in long]}, {"data.corpus": long} | axes):
        names = [cell.name for cell in expand([grid])]
        assert len({*names}) == 2 and all(len(name.encode()) <= 180 and "/" not in name for name in names)
        assert [cell.name for cell in expand([grid])] == names and names[0].startswith("corpus=")
    name = expand([{"data.root": ["a" * 40 + "ü" * 25]}])[0].name
    assert "\ufffd" not in unquote(name) and name.startswith(f"root={'a' * 40}.."), "no letter is cut in two"


def shipped(name):
    return read_grids(yaml.safe_load((REPOSITORY / f"experiments/{name}.yaml").read_text())["sweep"])


def test_all_combinations():
    cells = expand([GRID])
    assert [tuple(cell.settings.values()) for cell in cells] == list(product(*GRID.values()))
    assert all([*cell.settings] == [*GRID] for cell in cells)
    assert cells[0].name == "task=rte,lr=5e-05,seed=0"
    assert cells[0].arguments == ["--data.task=rte", "--model.lr=5e-05", "--seed=0"]


def test_the_papers_grid():
    cells = [cell.settings for cell in expand(shipped("glue"))]
    per_task = {task: sum(cell["data.task"] == task for cell in cells) for task in {c["data.task"] for c in cells}}
    five, one = 3 * 2 * 5, 3 * 2 * 1  # learning rates, batch sizes, seeds
    assert per_task == {
        **dict.fromkeys(("cola", "stsb", "rte", "mrpc", "sst2", "wnli"), five),
        **dict.fromkeys(("qnli", "qqp", "mnli"), one),
    }
    assert {cell["model.optimizer.init_args.lr"] for cell in cells} == {5e-5, 3e-5, 2e-5}
    assert {cell["data.batch_size"] for cell in cells} == {16, 32}


def test_the_fixed_depths_to_compare_with():
    fixed = [cell.settings for cell in expand(shipped("pareto")) if "model.depth.halting" in cell.settings]
    depths = {cell["model.depth.num_hidden_layers"] for cell in fixed if cell["model.depth.halting"] == "fixed"}
    cap = yaml.safe_load((REPOSITORY / "checkpoints/minilm-adaptive/config.json").read_text())["num_hidden_layers"]
    assert depths == set(range(1, cap + 1))


def test_a_cell_of_two_grids_is_one_whatever_the_order():
    assert [cell.settings for cell in expand([{"a": [1], "b": [2, 3]}, {"b": [3.0, 4], "a": [1]}])] == [
        {"a": 1, "b": 2},
        {"a": 1, "b": 3},
        {"b": 4, "a": 1},
    ]


def test_names_are_distinct_and_file_names():
    values = [None, True, "a/b", "a b", "a,b=c", "..", 1, 1.5, -2, [1, 2], {"x": 1}, "$" + "{y}"]
    names = [cell.name for cell in expand([{"one.setting": values, "two.setting": [0]}])]
    assert len({*names}) == len(values)
    for name in names:
        assert name.startswith("one.setting=") and name.endswith(",two.setting=0")
        assert not {*name} & set("/ ${}[]")
    assert [cell.name for cell in expand([{"one.x": [1.0], "two.y": [2]}])] == ["x=1,y=2"]
    assert [cell.name for cell in expand([{"x": [{"b": 2.0, "a": "c"}]}])] == ["x=a=c+b=2"]


def test_names_are_the_same_when_grids_are_dropped():
    grids = [{"one.x": [1]}, {"two.x": [2], "z": [3]}]
    names = [cell.name for cell in expand(grids)]
    assert [cell.name for cell in expand(choose(grids, "z", [3]), axes_of(grids))] == names[1:]


def test_a_few_cells_have_all_values():
    few = [cell.settings for cell in cover([GRID, {"data.task": ["cola", None]}])]
    assert len(few) == 3 + 2
    for axis, values in GRID.items():
        assert {cell[axis] for cell in few[:3]} == {*values}
    assert few[3:] == [{"data.task": "cola"}, {"data.task": None}]


@pytest.mark.parametrize(
    ("axis", "values", "expected"),
    [
        ("task", ["rte"], [{"task": ["rte"], "seed": [0, 1]}]),
        ("task", ["mnli"], [{"task": ["mnli"], "seed": [0]}]),
        ("task", ["mnli", "rte"], [{"task": ["rte"], "seed": [0, 1]}, {"task": ["mnli"], "seed": [0]}]),
        ("task", ["cola"], [{"task": ["cola"], "seed": [0, 1]}, {"task": ["cola"], "seed": [0]}]),
        ("seed", [0, 7], [{"task": ["rte", "mrpc"], "seed": [0, 7]}, {"task": ["mnli"], "seed": [0, 7]}]),
        ("seed", [1], [{"task": ["rte", "mrpc"], "seed": [1]}]),
    ],
)
def test_values_of_the_command_line(axis, values, expected):
    assert choose(SMALL_AND_LARGE, axis, values) == expected


def test_an_axis_of_one_grid_only():
    grids = [{"tau": [0, 1]}, {"halting": ["fixed"]}]
    assert choose(grids, "halting", ["fixed"]) == [{"halting": ["fixed"]}]
    assert choose(grids, "halting", ["act"]) == [{"tau": [0, 1], "halting": ["act"]}, {"halting": ["act"]}]


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        (None, "no grid"),
        ({}, "no grid"),
        ([], "no grid"),
        ([{}], "is no grid"),
        (["data.task"], "is no grid"),
        ({"data.task": "rte"}, "data.task must be a list of values, such as [rte], got 'rte'"),
        ({"data.task": []}, "data.task must be a list"),
        ({"data.task": {"a": 1}}, "data.task must be a list"),
        ({"run_dir": ["a"]}, "run_dir is not a setting to sweep over"),
    ],
)
def test_no_grid(sweep, expected):
    with pytest.raises(UserError) as error:
        read_grids(sweep)
    assert expected in str(error.value)
