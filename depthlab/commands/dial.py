"""`depthlab dial`: one checkpoint, many budgets. What is measured is printed, and kept for `depthlab report pareto`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from depthlab.analysis.records import RunRecord, as_record
from depthlab.commands.experiment import run_experiment
from depthlab.commands.experiment_cli import ExperimentCLI
from depthlab.commands.guards import refuse_untrained
from depthlab.commands.outcome import of_a_part, say
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.errors import UserError
from depthlab.files import make_writable, told, writing
from depthlab.models import AdaptiveAlbertConfig
from depthlab.reports.measured import dial_table
from depthlab.run.config import read_yaml
from depthlab.run.directory import RunDirectory, find_checkpoint, read_run, run_of


def dial(arguments: Sequence[str]) -> None:
    """Measure a checkpoint at many settings.

    Raises:
        UserError: bad settings; the model's tokens have no depth; there is nothing to validate.
    """
    run_experiment("dial", arguments, DialCLI)


class DialCLI(ExperimentCLI):
    """What becomes of the settings and measurements of `depthlab dial`."""

    def dial(self, **arguments: Any) -> None:
        """Measure, print, and keep scores of a task in the directory of the checkpoint's run, or else of this one.

        Raises:
            UserError: the model's tokens have no depth; there is nothing to validate; the checkpoint does not know the
                task, or what the rule learns; the directory can't be written.
        """
        config = self.model.model.config
        if "validate" not in self.experiment.commands() or not isinstance(config, AdaptiveAlbertConfig):
            raise UserError(
                "depthlab dial validates models whose tokens have a depth: name an ALBERT, and a task of it"
            )
        checkpoint, rule = self.options.model.checkpoint, config.rule
        refuse_untrained(checkpoint, self.model.model)
        run = _run_with(checkpoint)
        place = run or self.run
        record, named = self._record(run, checkpoint)
        make_writable("to", place.dials)
        by = config.halting if rule.adaptive else "fixed"  # which is what it is where nothing is trained
        own = _differences(config, self.model.model.trained_as, arguments["max_depth"])
        control = getattr(self.model, "depth_control", None)
        if record is not None and control != record.model.get("control"):
            own["control"] = control or "none"
        if record is not None and run is not None:
            own |= _other_data(self.config[self.command].data.as_dict(), read_yaml(run.config)["data"])
        points = self.trainer.dial(**arguments)
        if not self.trainer.is_global_zero:
            return
        part = of_a_part(self.trainer, "val")
        say("\n" + dial_table(points, rule.dial) + part)
        if part:
            say("They are not kept: reports are of whole splits.")
        elif record is not None:
            records = [
                {
                    **asdict(record),
                    "directory": str(place.path),
                    "model": record.model | {"rule": by, **own, "dial": point["dial"]},
                    "epochs": [{"epoch": 0, "step": 0} | {t: v for t, v in point.items() if t != "dial"}],
                }
                for point in points
            ]
            file = place.dials / f"{','.join([by, *told(own | named)])}.json"
            records = _with_those_of_before(file, records)
            with writing("the points to", file) as unfinished:
                unfinished.write_text(json.dumps(records, indent=1) + "\n")
            say(f"\npoints  {file}\nnext    depthlab report pareto {place.path}")

    def _record(self, run: RunDirectory | None, checkpoint: str) -> tuple[RunRecord | None, dict[str, str]]:
        """The run that has trained the checkpoint for the task; or the checkpoint, by its name; None of other tasks.

        And what of it the name of a file must say beside the rule, as not everything there is of the run's best state.
        """
        kind, task, config = self.options.task, getattr(self.model, "task", None), self.model.model.trained_as
        if kind in ("glue", "own") and run is not None and run.results.exists():
            record = as_record(read_run(run.path))
            if record.task != task:
                raise UserError(f"{checkpoint} was trained for {record.task}, and the data is of {task}")
            found, usual = find_checkpoint(checkpoint), find_checkpoint(str(run.path))
            state = {} if found in (None, usual) else {"state": found.stem}
            return replace(record, model=record.model | state), state
        if task not in GLUE_TASKS:
            return None, {}
        measured = {} if kind == "glue" else {"measured": kind}
        model = {"checkpoint": checkpoint, "model_type": config.model_type, **measured}
        record = RunRecord(
            directory=Path(self.run.path),
            suite="glue",
            task=task,
            metric=GLUE_TASKS[task].metrics[0],
            model=model | {"num_hidden_layers": config.num_hidden_layers},
            training={},
            learning_rate=0.0,
            batch_size=self.datamodule.batch_size,
            seed=self.options.seed_everything,
            epochs=[],
            data={},
            tokens=0,
            token_iterations=0,
            tested={},
        )
        return record, {"task": task, "checkpoint": quote(checkpoint, safe=""), **measured}


def _with_those_of_before(file: Path, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points, and those that the file has of the same model at other settings of the dial; by the dial."""

    def model_of(record: dict[str, Any]) -> Any:
        model = {name: value for name, value in record["model"].items() if name != "dial"}
        return json.loads(json.dumps(record | {"model": model, "epochs": None}))

    before = json.loads(file.read_text()) if file.exists() else []
    anew = {record["model"]["dial"] for record in records}
    others = [one for one in before if one["model"]["dial"] not in anew and model_of(one) == model_of(records[0])]
    return sorted([*others, *records], key=lambda record: record["model"]["dial"])


def _run_with(checkpoint: str) -> RunDirectory | None:
    """The run whose model a checkpoint is: one of the states that it keeps, or what it has exported."""
    found = find_checkpoint(checkpoint)
    if found is not None:
        run = run_of(found)
        return run if found.parent == run.checkpoints else None
    run = RunDirectory(Path(checkpoint).parent)
    return run if run.model == Path(checkpoint) and run.was_begun() else None


def _other_data(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the texts that are measured others than those of the run, or others to the model."""
    apart = ("task", "root", "cache_dir", "num_workers", "batch_size", "seed", "train", "test", "train_examples")
    return {
        name: value for name, value in ours.items() if name not in apart and name in theirs and theirs[name] != value
    }


def _differences(config: AdaptiveAlbertConfig, own: AdaptiveAlbertConfig, max_depth: int | None) -> dict[str, Any]:
    """What makes a model that is measured another than the checkpoint's own, but for rule and dial; all its settings.

    Args:
        config: what is measured.
        own: the checkpoint's.
        max_depth: the cap, in place of the configuration's.
    """
    rule, settings = config.rule, {"execution": config.execution}
    if rule.adaptive:
        settings |= {name: getattr(config, name) for name in ("act_update", "act_cap", "act_epsilon")}
        settings |= {one.name: getattr(rule, one.name) for one in fields(rule)}
    apart = (rule.dial, "num_hidden_layers", "time_penalty")
    trained = own.to_dict() | own.halting_settings
    differing = {
        name: value
        for name, value in settings.items()
        if name not in apart and (name in config.halting_settings or trained.get(name, value) != value)
    }
    cap = max_depth or config.num_hidden_layers
    deeper = rule.dial != "num_hidden_layers" and cap != own.num_hidden_layers
    return differing | ({"max_depth": cap} if deeper else {})
