"""`depthlab dial`: one checkpoint, many budgets. What is measured is printed, and kept for `depthlab report pareto`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from depthlab.analysis.records import RunRecord, as_record
from depthlab.commands.experiment import run_experiment
from depthlab.commands.experiment_cli import ExperimentCLI
from depthlab.commands.guards import refuse_untrained
from depthlab.commands.outcome import of_a_part, say
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.errors import UserError
from depthlab.files import make_writable, writing
from depthlab.models import AdaptiveAlbertConfig
from depthlab.reports.measured import dial_table
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
        found = find_checkpoint(checkpoint)
        place = self.run if found is None else run_of(found)
        record = self._record(place, checkpoint)
        make_writable("to", place.dials)
        points = self.trainer.dial(**arguments)
        if not self.trainer.is_global_zero:
            return
        by = config.halting if rule.adaptive else "fixed"  # which is what it is where nothing is trained
        own = {name: value for name, value in config.halting_settings.items() if rule.adaptive and name != rule.dial}
        own |= {"max_depth": arguments["max_depth"]} if arguments["max_depth"] else {}
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
            name = ",".join([by, *(f"{setting}={value}" for setting, value in sorted(own.items()))])
            with writing("the points to", place.dials / f"{name}.json") as unfinished:
                unfinished.write_text(json.dumps(records, indent=1) + "\n")
            say(f"\npoints  {place.dials / name}.json\nnext    depthlab report pareto {place.path}")

    def _record(self, place: RunDirectory, checkpoint: str) -> RunRecord | None:
        """The run that has trained the checkpoint for the task; or the checkpoint, by its name; None of other tasks."""
        kind, task, config = self.options.task, getattr(self.model, "task", None), self.model.model.config
        if kind in ("glue", "own") and place.results.exists():
            record = as_record(read_run(place.path))
            if record.task != task:
                raise UserError(f"{checkpoint} was trained for {record.task}, and the data is of {task}")
            return record
        if task not in GLUE_TASKS:
            return None
        measured = {} if kind == "glue" else {"measured": kind}
        model = {"checkpoint": checkpoint, "model_type": config.model_type, **measured}
        return RunRecord(
            directory=Path(place.path),
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
