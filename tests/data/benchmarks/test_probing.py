import pytest

from depthlab.data.benchmarks.probing import PROBING_TASKS, ProbingDataModule, read_probing
from depthlab.errors import UserError

from .glue_fixtures import write_tsv
from .probing_fixtures import ROWS, SENTEVALS_NAMES


@pytest.fixture
def make(make_data):
    def make(task: str, stage: str | None = "fit", **changes) -> ProbingDataModule:
        return make_data("probing", stage, task=task, **changes)

    return make


@pytest.mark.parametrize("task", PROBING_TASKS)
def test_all_ten_tasks(make, task):
    module = make(task)
    rows = ROWS[task]
    assert module.task_name == task and module.metrics == ("accuracy",)
    assert module.labels == tuple(sorted({label for label, _ in rows}))
    assert module.summary == {"train": len(rows), "dev": len(rows), "test": len(rows)}
    for loaders, expected in ((module.val_dataloader(), rows), (module.test_dataloader(), rows[::-1])):
        (loader,) = loaders
        seen = {}
        for batch in loader:
            for index, ids, label in zip(batch["index"], batch["input_ids"], batch["labels"], strict=True):
                tokens = ids[ids != module.tokenizer.pad_token_id].tolist()
                assert tokens == module.tokenizer(expected[index][1])["input_ids"]
                seen[int(index)] = module.labels[label]
        assert [seen[number] for number in range(len(rows))] == [label for label, _ in expected]
    trained = [index for batch in module.train_dataloader() for index in batch["index"].tolist()]
    assert sorted(trained) == list(range(len(rows)))


def test_names_of_tasks_and_files(make, root, tmp_path):
    lines = [(side, *row) for side in ("tr", "va", "te") for row in ROWS["tense"]]
    write_tsv(tmp_path / "tense.txt.gz", lines)
    by_our_name = make("past_present", root=str(tmp_path))
    assert by_our_name.task_name == "tense" == make("past_present").task_name
    assert by_our_name.labels == make("tense").labels == ("PAST", "PRES")
    assert SENTEVALS_NAMES == PROBING_TASKS
    write_tsv(tmp_path / "past_present.txt", lines)
    with pytest.raises(UserError, match=r"past_present\.txt and .*tense\.txt\.gz are both there"):
        make("tense", root=str(tmp_path))


def test_fields_between_label_and_sentence_are_passed_over(tmp_path):
    """SentEval: at least these fields, and the sentence is the last."""
    lines = [("tr", "b", "x", 'The " y'), ("va", "a", "z ")]
    labels, splits = read_probing(write_tsv(tmp_path / "file.txt", lines))
    assert labels == ("a", "b")
    assert splits == {"train": ([['The " y']], [1], 0), "dev": ([["z"]], [0], 0)}


def test_predictions_are_written_by_name(make):
    module = make("tense", "predict")
    assert module.predict_splits == ["test"] and module.prediction_file("test") == "tense.tsv"
    assert [module.as_written(number) for number in (0, 1)] == ["PAST", "PRES"]


def test_texts_that_spell_special_tokens(make, tmp_path):
    """Are text, to the model and in the counts of pieces."""
    text = "a [SEP] b <pad> c [MASK] [CLS]"
    write_tsv(tmp_path / "tense.txt", [(side, label, text) for side in ("tr", "va", "te") for label in "ab"])
    module = make("tense", root=str(tmp_path))
    (batch,) = module.val_dataloader()[0]
    tokenizer, counts = module.tokenizer, module.piece_counts(len(module.tokenizer))
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad", "mask")}
    for ids in batch["input_ids"].tolist():
        assert ids[0] == special["cls"] and ids[-1] == special["sep"]
        assert not {*ids[1:-1]} & {*special.values()}
    assert {name: counts[id_].item() for name, id_ in special.items()} == {"cls": 2, "sep": 2, "pad": 0, "mask": 0}


BAD_LINES = {
    "two fields": ("va\tb", "not split<TAB>label<TAB>sentence"),
    "an empty sentence": ("va\tb\t ", "not split"),
    "an empty label": ("va\t\ty", "not split"),
    "an empty line": ("", "not split"),
    "a split of another name": ("dev\tb\ty", "the split is 'dev'; it must be one of tr, va, te"),
    "bytes that are no text": ("va\tb\t\xff", "not valid UTF-8"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_lines(make, tmp_path, name):
    line, message = BAD_LINES[name]
    (tmp_path / "subj_number.txt").write_text(f"tr\ta\tx\n{line}\nva\tb\ty\n\n", "latin-1")
    with pytest.raises(UserError, match=rf"subj_number\.txt, line 2: {message}"):
        make("subj_number", root=str(tmp_path))


def test_one_label_is_no_task(make, tmp_path):
    write_tsv(tmp_path / "subj_number.txt", [("tr", "a", "x"), ("va", "a", "y")])
    with pytest.raises(UserError, match=r"the labels are \['a'\]"):
        make("subj_number", root=str(tmp_path))


def test_absent_files(make, tmp_path):
    with pytest.raises(UserError, match=r"no past_present\.txt there; set data\.root"):
        make("tense", root=str(tmp_path))
    with pytest.raises(UserError, match=r"data\.root is not set; .*depthlab data probing"):
        make("tense", root=None)
