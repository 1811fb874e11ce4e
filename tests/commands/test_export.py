"""A run's checkpoint as a directory that Hugging Face's tools, and nothing of what trained it, can load."""

import json
import subprocess
import sys

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from transformers import AutoTokenizer

from depthlab.cli import main
from depthlab.commands.export import export
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertForPreTraining, AdaptiveAlbertForSequenceClassification
from depthlab.models.export import Exported, write_export
from depthlab.reports.card import write_card
from tests.disk import files_of_at_most
from tests.models.exported import STEPS, tiny_tokenizer, write_run
from tests.models.variants import HEADS, assert_equal_outputs, build, loaded, name_of
from tests.support import REPOSITORY, error_of

HEAVY = ("lightning", "torchmetrics", "datasets", "tensorboard", "pandas", "matplotlib")
NOT_NEEDED = ("pytorch_lightning", "jsonargparse", "omegaconf")

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def run_of(tmp_path, tokenizer):
    """Writes a run of a model; its checkpoint."""
    return lambda model, **checkpoint: write_run(tmp_path / "run", model, tokenizer, **checkpoint)


@pytest.mark.parametrize("model_class", HEADS, ids=name_of)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_round_trip_to_the_bit(tmp_path, run_of, model_class, dtype):
    torch.manual_seed(0)
    model = build(model_class)
    checkpoint = run_of(model)
    main(["export", f"--checkpoint={checkpoint}", f"--to={tmp_path}/out", f"--dtype={dtype}"])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1, "readable by the same people"
    assert model_class.from_pretrained(tmp_path / "out").dtype == torch.float32, "unless asked otherwise"
    again = loaded(model_class.from_pretrained(tmp_path / "out", dtype=dtype))
    model = loaded(model.to(getattr(torch, dtype)))
    assert again.dtype == model.dtype
    assert_equal_outputs(again.state_dict(), model.state_dict())
    inputs = AutoTokenizer.from_pretrained(tmp_path / "out")("bado kelu.", "mi", return_tensors="pt")
    assert inputs["token_type_ids"].any(), "pairs have segments"
    assert_equal_outputs(again(**inputs), model(**inputs))


def test_the_tokenizer_knows_the_models_limit(tmp_path, run_of):
    export(checkpoint=str(run_of(build(AdaptiveAlbertForPreTraining))), to=str(tmp_path / "out"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(tokenizer("bado kelu " * 30, truncation=True)["input_ids"]) == 24


def test_says_what_it_wrote(tmp_path, run_of, capsys):
    model = build(AdaptiveAlbertForPreTraining)
    main(["export", f"--checkpoint={run_of(model)}", f"--to={tmp_path}/out", "--dtype=bfloat16"])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"written to   {tmp_path}/out ({parameters:,} parameters in bfloat16, after 7 steps)"
    for file in (tmp_path / "out").iterdir():
        if file.suffix != ".py":
            assert f" {file.name} ({-(-file.stat().st_size // 1000)} kB)" in second
    code = sum(file.stat().st_size for file in (tmp_path / "out").glob("*.py"))
    assert f" code ({-(-code // 1000)} kB)" in second


def test_card_and_settings_come_from_the_run(tmp_path, run_of):
    run_dir = run_of(build(AdaptiveAlbertForPreTraining, time_penalty=0.25)).parent.parent
    export(checkpoint=str(run_dir), to=str(tmp_path / "out"), dtype="bfloat16")
    card = (tmp_path / "out/README.md").read_text()
    phrases = ["7 steps", "`AdaptiveAlbertForPreTraining`", "bfloat16", "at most 5 iterations", "time penalty 0.25"]
    phrases += ["novels", "24 documents", "15 training, 6 development, 3 test (split seed 0)"]
    phrases += ["1,234 tokens in 5,678 token-iterations", "9 s"]
    phrases += [" 12.30 |", "depthlab fit --config training.yaml"]
    assert not [phrase for phrase in phrases if phrase not in card]
    assert str(tmp_path) not in card
    settings = yaml.safe_load((tmp_path / "out/training.yaml").read_text())
    assert settings == {"data": {"corpus": ["some/where/novels"], "seed": 3}}


def test_results_of_another_step_are_not_this_models(tmp_path, run_of):
    run_dir = run_of(build(AdaptiveAlbertForPreTraining), global_step=STEPS + 1).parent.parent
    export(checkpoint=str(run_dir), to=str(tmp_path / "out"))
    card = (tmp_path / "out/README.md").read_text()
    assert "8 steps" in card and "not been evaluated" in card and "12.30" not in card
    results = {"steps": 8, "task": "mrpc", "val/score": 0.5, "val/depth/all": 2.25}
    settings = {"data": {"task": "mrpc"}, "model": {"checkpoint": "some/where/nano"}}
    (tmp_path / "out/training.yaml").write_text(yaml.safe_dump(settings))
    (run_dir / "results.json").write_text(json.dumps(results))
    write_card(run_dir, Exported(tmp_path / "out", 8, 1, "float32"))
    card = (tmp_path / "out/README.md").read_text()
    for phrase in (
        "Started from `nano`. What that had seen is not known here",
        "Task: mrpc.",
        "| score (%) | 50.00 |",
        "| mean depth, all tokens | 2.25 |",
    ):
        assert phrase in card, phrase


def test_the_card_says_what_the_parent_had_seen(tmp_path, run_of):
    """By the parent's own card: of an exported model, and of a run."""
    run_dir = run_of(build(AdaptiveAlbertForPreTraining)).parent.parent
    for parent in (tmp_path / "parent", run_dir / "model"):
        export(checkpoint=str(run_dir), to=str(parent))
    for parent in (tmp_path / "parent", run_dir):
        settings = {"data": {"corpus": "some/where/laws"}, "model": {"checkpoint": str(parent)}}
        (run_dir / "config.yaml").write_text(yaml.safe_dump(settings))
        export(checkpoint=str(run_dir), to=str(tmp_path / parent.name / "child"))
        card = (tmp_path / parent.name / "child/README.md").read_text()
        data = card.partition("## Data")[2].partition("## Results")[0]
        assert f"Started from `{parent.name}`. Its card says of what it had seen: “Corpus: novels. 24 documents" in data
        assert "Corpus: laws." in data.partition("”")[2]


def test_the_hub_finds_its_scores_in_the_card(tmp_path, run_of):
    checkpoint = run_of(build(AdaptiveAlbertForPreTraining))
    export(checkpoint=str(checkpoint), to=str(tmp_path / "out"))
    (listed,) = ModelCard.load(tmp_path / "out/README.md").data.eval_results
    assert (listed.task_type, listed.dataset_name) == ("fill-mask", "held-out documents of novels")
    assert (listed.metric_name, listed.metric_value) == ("MLM accuracy", 0.123)
    fine_tuning = {"task": "glue", "data": {"task": "mrpc"}}
    (tmp_path / "out/training.yaml").write_text(yaml.safe_dump(fine_tuning))
    scores = {"val/score": 0.5, "val/accuracy": 0.7, "val/f1": 0.81234}
    (tmp_path / "run/results.json").write_text(json.dumps({"steps": STEPS} | scores))
    write_card(tmp_path / "run", Exported(tmp_path / "out", STEPS, 1, "float32"))
    listed = ModelCard.load(tmp_path / "out/README.md").data.eval_results
    assert [(one.dataset_type, one.dataset_config, one.metric_type) for one in listed] == [
        ("glue", "mrpc", "accuracy"),
        ("glue", "mrpc", "f1"),
    ]
    assert [one.metric_value for one in listed] == [0.7, 0.8123]


def test_work_that_is_the_whole_runs_is_said_to_be(tmp_path, run_of):
    """The model is the best state's, after 7 steps of 21."""
    run_dir = run_of(build(AdaptiveAlbertForPreTraining)).parent.parent
    results = {"steps": STEPS, "tokens": 4000, "token_iterations": 9000, "seconds": 8.0, "epochs": [{"step": 21}]}
    (run_dir / "results.json").write_text(json.dumps(results))
    export(checkpoint=str(run_dir), to=str(tmp_path / "out"))
    card = (tmp_path / "out/README.md").read_text()
    assert "for 7 steps" in card and "Seen in all 21 steps of the run: 4,000 tokens" in card


def test_a_halting_unit_that_still_rests_is_left_out(tmp_path, run_of):
    export(checkpoint=str(run_of(build(AdaptiveAlbertForPreTraining), hold_depth=True)), to=str(tmp_path / "out"))
    model = AdaptiveAlbertForPreTraining.from_pretrained(tmp_path / "out")
    assert model.config.halting == "fixed"
    assert "5 iterations for every token" in (tmp_path / "out/README.md").read_text()


def test_replaces_as_a_whole_or_not_at_all(tmp_path, run_of):
    model = build(AdaptiveAlbertForPreTraining)
    checkpoint, target = run_of(model), tmp_path / "model"
    assert write_export(checkpoint, target, write_card).steps == STEPS
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    with files_of_at_most(5000), pytest.raises(UserError, match=r"cannot write the model to .*File too large"):
        write_export(checkpoint, target, write_card, "float16")
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    write_export(checkpoint, target, write_card, "float16")
    assert (target / "model.safetensors").stat().st_size < len(before["model.safetensors"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "run"]


def test_refuses(tmp_path, run_of):
    checkpoint = str(run_of(build(AdaptiveAlbertForPreTraining)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    export(checkpoint=checkpoint, to=str(tmp_path / "exported"))
    for source, target, message in (
        (checkpoint, "full", "exists already"),
        (checkpoint, "full/notes.txt", "exists already"),
        (checkpoint, "full/notes.txt/out", "cannot write"),
        (str(tmp_path / "none"), "out", "does not exist"),
        (str(tmp_path / "full"), "out", "holds no checkpoints/last.ckpt"),
        (str(tmp_path / "exported"), "out", "is a model, not a run"),
        (str(tmp_path / "full/notes.txt"), "out", "not a checkpoint"),
    ):
        with pytest.raises(UserError, match=message):
            export(checkpoint=source, to=str(tmp_path / target))
    (tmp_path / "run/tokenizer").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="tokenizer is missing"):
        export(checkpoint=checkpoint, to=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.full
def test_the_exported_directory_needs_nothing_that_trains(tmp_path, run_of):
    """Nor is any of it imported by the commands that load models."""
    export(checkpoint=str(run_of(build(AdaptiveAlbertForPreTraining))), to=str(tmp_path / "out"))
    program = f"""
import sys
sys.modules["sklearn"] = None  # some transformers import it where it is installed, and it imports pandas
from depthlab.cli import find
for command in ("convert", "export", "inspect"):
    find(command)
print("torch" in sys.modules, [name for name in {HEAVY} if name in sys.modules])
for name in {HEAVY + NOT_NEEDED}:
    sys.modules[name] = None  # importing it fails
from transformers import AutoModel, AutoTokenizer
model, tokenizer = AutoModel.from_pretrained("out"), AutoTokenizer.from_pretrained("out")
print(int(model(**tokenizer("bado kelu.", return_tensors="pt")).depths.min()))
"""
    environment = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported, depth = done.stdout.splitlines()
    assert imported == "True []" and int(depth) >= 1


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_graph_for_onnxruntime(tmp_path, run_of, capsys, dtype):
    """Of a run, and of what was exported of it: a folder that needs nothing of ours."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = build(AdaptiveAlbertForSequenceClassification, num_labels=2)
    checkpoint = run_of(model)
    main(["export", f"--checkpoint={checkpoint}", f"--to={tmp_path}/plain"])
    for source, target in ((checkpoint, "one"), (tmp_path / "plain", "two")):
        main(["export", f"--checkpoint={source}", f"--to={tmp_path / target}", "--onnx", f"--dtype={dtype}"])
        assert f"{tmp_path / target}/model.onnx (" in capsys.readouterr().out
    files = [(tmp_path / target / "model.onnx").read_bytes() for target in ("one", "two")]
    assert files[0] == files[1]
    inputs = AutoTokenizer.from_pretrained(tmp_path / "one")("bado kelu.", "mi", return_tensors="np")
    assert inputs["token_type_ids"].any()
    session = onnxruntime.InferenceSession(tmp_path / "one/model.onnx")
    (logits,) = session.run(["logits"], {name: inputs[name] for name in inputs})
    with torch.no_grad():
        wanted = model(**{name: torch.from_numpy(inputs[name]) for name in inputs}).logits
    torch.testing.assert_close(torch.from_numpy(logits), wanted, rtol=0, atol=1e-4 if dtype == "float32" else 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dtype=int8"], "--dtype int8 needs --onnx"),
        (["--onnx", "--dtype=float16"], "--onnx has no --dtype float16"),
    ],
)
def test_precisions_that_there_are_not(tmp_path, capsys, options, message):
    assert message in error_of(capsys, ["export", "--checkpoint=x", f"--to={tmp_path}/out", *options])


def test_onnx_is_an_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in [name for name in sys.modules if name.startswith("depthlab.models.onnx.")]:
        monkeypatch.delitem(sys.modules, name)
    error = error_of(capsys, ["export", "--checkpoint=x", f"--to={tmp_path}/out", "--onnx"])
    assert "pip install 'depthlab[onnx]'" in error
