"""The model card of an exported run."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from transformers import AutoConfig

from depthlab.analysis.scores import SCORES
from depthlab.models import AdaptiveAlbertConfig
from depthlab.models.export import SETTINGS, Exported
from depthlab.reports.measured import measured_table
from depthlab.run.directory import RunDirectory, read_file

METRICS = {name: tag for tag, name in SCORES.items() if tag != "score"}
"""Names of what the card lists for the hub, and tags."""
METRICS |= {"MLM accuracy": "accuracy/mlm", "SOP accuracy": "accuracy/sop"}


def write_card(run_dir: Path, exported: Exported) -> None:
    """Write the model card of an exported directory.

    Args:
        run_dir: the run, whose `results.json` the card is filled from; results of another step than the exported
            model's are left out.
        exported: the model.
    """
    directory, steps = exported.path, exported.steps
    config = AutoConfig.from_pretrained(directory)
    results_file, settings_file = RunDirectory(run_dir).results, directory / SETTINGS
    results = read_file(results_file) if results_file.exists() else {}
    results = results if results.get("steps") == steps else {}
    settings = read_file(settings_file) if settings_file.exists() else {}
    parts = [
        f"---\n{_for_the_hub(RunDirectory(run_dir), results, settings)}\n---",
        f"# An adaptive-depth ALBERT, trained by depthlab for {steps:,} steps",
        f"`{config.architectures[0]}`, weights in {exported.dtype}; {_depth(config)}. After `import depthlab`, Hugging "
        "Face's `AutoModel` and its kin take this directory, and `pipeline` does; without depthlab, given "
        "`trust_remote_code=True`." + _states(config),
        f"## Data\n\n{_data(results, settings)}",
        f"## Results\n\n{_scores(results)}",
    ]
    if settings:
        parts.append(
            f"## Command\n\n`{SETTINGS}`, beside this card, holds every setting of the run; its paths are the run's "
            f"own.\n\n```sh\ndepthlab fit --config {SETTINGS} --run_dir checkpoints/runs/again\n```"
        )
    (directory / "README.md").write_text("\n\n".join(parts) + "\n")


def _for_the_hub(run: RunDirectory, results: dict[str, Any], settings: dict[str, Any]) -> str:
    """The card's first lines, in YAML: what the hub finds a model by, and its scores (`model-index`)."""
    set_data, about = settings.get("data", {}), ModelCardData(library_name="transformers")
    about.tags = ["adaptive-depth", "albert", "depthlab"]
    scores = {name: results[f"val/{tag}"] for name, tag in METRICS.items() if f"val/{tag}" in results}
    if scores:
        task = set_data.get("task")
        about.model_name = run.path.absolute().name
        about.eval_results = [
            EvalResult(
                task_type="fill-mask" if task is None else "text-classification",
                dataset_type=settings.get("task", "corpus"),
                dataset_name=task or f"held-out documents of {', '.join(_sources(set_data))}",
                dataset_config=task,
                dataset_split="validation",
                metric_type=METRICS[name].rpartition("/")[2] if task else "accuracy",
                metric_name=name,
                metric_value=round(float(value), 4),
            )
            for name, value in scores.items()
        ]
    return about.to_yaml()


def _sources(set_data: dict[str, Any]) -> list[str]:
    """Names of what a corpus is made of."""
    corpus = set_data.get("corpus") or []
    sources = corpus if isinstance(corpus, list) else [corpus]
    return [Path(source["path"] if isinstance(source, dict) else source).name for source in sources]


def _depth(config: AdaptiveAlbertConfig) -> str:
    if not config.rule.adaptive:
        return f"{config.num_hidden_layers} iterations for every token"
    if config.halting != "act":
        return f"halting `{config.halting}`: {config.rule.describe(config.num_hidden_layers)}"
    rule = f"`{config.act_update}`, `{config.act_cap}`, time penalty {config.time_penalty:g}"
    return f"at most {config.num_hidden_layers} iterations a token ({rule})"


def _states(config: AdaptiveAlbertConfig) -> str:
    if not config.rule.adaptive or config.act_update != "accumulate":
        return ""
    return (
        " `last_hidden_state` is the weighted sum of the states of a token's iterations, not the last of its "
        "`hidden_states`."
    )


def _data(results: dict[str, Any], settings: dict[str, Any]) -> str:
    lines, set_data = [], settings.get("data", {})
    if checkpoint := settings.get("model", {}).get("checkpoint"):
        lines.append(f"Started from `{Path(checkpoint).name}`. {_seen_before(Path(checkpoint))}")
    if task := set_data.get("task"):
        lines.append(f"Task: {task}.")
    if sources := _sources(set_data):
        lines.append(f"Corpus: {', '.join(sources)}.")
    data = results.get("data", {})
    if {"documents", "tokens", "sources"} <= data.keys():
        counts = {part: sum(source[part]["documents"] for source in data["sources"]) for part in data["sources"][0]}
        parts = ", ".join(f"{count:,} {part.replace('_', ' ')}" for part, count in counts.items() if count)
        lines.append(
            f"{data['documents']:,} documents and {data['tokens']:,} tokens, by documents: {parts} (split seed "
            f"{set_data.get('split_seed', 0)})."
        )
    if "tokens" in results:
        whole = results["epochs"][-1]["step"] if results.get("epochs") else results["steps"]
        when = "in training" if whole == results["steps"] else f"in all {whole:,} steps of the run"
        lines.append(
            f"Seen {when}: {results['tokens']:,} tokens in {results['token_iterations']:,} token-iterations and "
            f"{results['seconds']:,.0f} s."
        )
    return " ".join(lines) or "Not known."


def _seen_before(checkpoint: Path) -> str:
    """What the model that was started from has seen, by its own card, beside it or in a run's exported model."""
    for card in (checkpoint / "README.md", RunDirectory(checkpoint).model / "README.md"):
        if card.is_file():
            _, heading, rest = card.read_text(errors="replace").partition("\n## Data\n")
            if heading:
                return f"Its card says of what it had seen: “{rest.partition(chr(10) + '## ')[0].strip()}”"
    return "What that had seen is not known here, and may be what is held out here."


def _scores(results: dict[str, Any]) -> str:
    scores = {name: value for name, value in results.items() if name.startswith("val/")}
    if not scores:
        return "The run has not been evaluated at this step."
    return measured_table(scores, results.get("task", "held out"))
