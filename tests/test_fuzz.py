"""Every reader of files, given files that are broken by chance: it reads them or says in a line what is wrong."""

import gzip
import io
import json

import pytest
import yaml

from depthlab.analysis.records import read_records
from depthlab.analysis.survey import survey
from depthlab.analysis.tokens import join_tokens, read_table
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS, read_split
from depthlab.data.benchmarks.probing import read_probing
from depthlab.data.benchmarks.probing_sets import derive
from depthlab.data.corpora.chunks import ChunkSettings, chunk_texts
from depthlab.data.corpora.corpus import CorpusSource, find_files, read_documents
from depthlab.data.corpora.frequency import count_words
from depthlab.data.lines import lines_of
from depthlab.data.tokenization import TextEncoder, load_tokenizer, word_start_table
from depthlab.data.treebanks.alignment import piece_rows, read_aligned
from depthlab.errors import UserError
from depthlab.reports.glue import glue_blocks
from depthlab.reports.trained import kinds_tables, name_runs, trained_table
from depthlab.reports.treebank import treebank_blocks
from tests.analysis.token_tables import token_table
from tests.data.benchmarks.glue_fixtures import write_glue
from tests.data.test_tokenization import ALBERTS, sentencepiece_in
from tests.data.treebanks.test_treebank import MADE
from tests.data.treebanks.treebank_fixtures import conllu
from tests.fuzz import INPUTS, changed_bytes, changed_values, one_of, only_user_errors
from tests.reports.synthetic import write_run
from tests.support import UNIGRAM, load_once, write_bert

TEXT = (
    "The crows circled above me. Why did they? I couldn't say.\nIt's a semi-final, (café).\n\nA second one. With two.\n"
)
CONLLU = "\n\n".join("\n".join(sentence) for sentence in MADE) + "\n\n"
TREES = conllu("Dogs/NOUN/nsubj/2/plur bark/VERB/root/0/pres at/ADP/case/4 cats/NOUN/obl/2/plur ./PUNCT/punct/2")
BRACKETS = (
    "# newdoc id = a\n( (S\n (NP-SBJ (NNS Dogs)) (VP (VBP bark) (PP (IN at) (NP (-NONE- *) (NNS cats)))) (. .)))\n" * 2
)


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".txt.gz", ".JSONL.GZ"])
def test_corpora(tmp_path, letters, suffix, inputs):
    rows = "".join(json.dumps({"text": part, "id": 3}) + "\n" for part in [*TEXT.split("\n\n"), None, "天地玄黄。"])
    plain = (rows if "json" in suffix.lower() else TEXT).encode()
    source, file = CorpusSource(str(tmp_path / f"a{suffix}")), tmp_path / f"a{suffix}"

    def read(content):
        file.write_bytes(content)
        texts = [document["text"] for document in read_documents(source, find_files(source))]
        chunk_texts(texts, letters, ChunkSettings(32, 0.1))
        count_words(texts)

    def make(draw):
        if not suffix.lower().endswith(".gz"):
            return changed_bytes(plain, draw)
        if draw.random() < 0.5:
            return gzip.compress(changed_bytes(plain, draw), 1)
        return changed_bytes(gzip.compress(plain, 1), draw)

    only_user_errors(read, inputs, make, suffix)


@pytest.mark.parametrize("inputs", INPUTS)
def test_treebanks(tmp_path, letters, inputs):
    def read(content):
        (tmp_path / "a.conllu").write_bytes(content)
        piece_rows(read_aligned([tmp_path / "a.conllu"], letters, 256), letters)

    only_user_errors(read, inputs, one_of([CONLLU.encode(), TREES.encode()]))


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize(("suffix", "content"), [(".conllu", TREES), (".conllu", CONLLU), (".ptb", BRACKETS)])
def test_trees(tmp_path, suffix, content, inputs, capsys):
    def read(content):
        (tmp_path / f"a{suffix}").write_bytes(content)
        derive([tmp_path / f"a{suffix}"])

    only_user_errors(read, inputs, one_of([content.encode()]), suffix)


@pytest.mark.parametrize("inputs", INPUTS)
def test_glue(tmp_path, inputs):
    root = write_glue(tmp_path)
    files = {name: root / task.folder / "train.tsv" for name, task in GLUE_TASKS.items()}
    contents = {name: file.read_bytes() for name, file in files.items()}

    def make(draw):
        name = draw.choice([*files])
        return name, changed_bytes(contents[name], draw)

    def read(given):
        files[given[0]].write_bytes(given[1])
        read_split(GLUE_TASKS[given[0]], root, "train")

    only_user_errors(read, inputs, make)


@pytest.mark.parametrize("inputs", INPUTS)
def test_probing(tmp_path, inputs):
    def read(content):
        (tmp_path / "tense.txt").write_bytes(content)
        read_probing(tmp_path / "tense.txt")

    only_user_errors(read, inputs, one_of([b"tr\tPAST\tit went .\nva\tPRES\tx\tit goes .\nte\tPAST\tit was .\n\n"]))


@pytest.mark.parametrize("inputs", INPUTS)
def test_lines_and_pieces(inputs):
    """What `inspect` reads, and every tokenizer is given."""
    encoders = [TextEncoder(load_once(str(UNIGRAM)), 64, masks=masks) for masks in (False, True)]

    def read(content):
        lines = [line for _, line in lines_of(io.BytesIO(content), "it")]
        for encode in encoders:
            for line, encoding in zip(lines, encode([(line, "b") for line in lines]), strict=True):
                assert len(encode.ids(encoding)) <= 64, line

    only_user_errors(read, inputs, one_of([TEXT.encode()]))


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("kind", ["spiece.model", "tokenizer.json", "vocab.txt"])
@pytest.mark.filterwarnings("ignore")
def test_tokenizers(tmp_path, kind, inputs):
    folder = tmp_path / "it"
    if kind == "spiece.model":
        sentencepiece_in(folder, kind, "albert", **ALBERTS)
    else:
        write_bert(folder)
        (folder / "model.safetensors").unlink()
    if kind == "vocab.txt":
        pieces = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        (folder / kind).write_text("\n".join(pieces))
        (folder / "tokenizer.json").unlink()
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    contents = {file: file.read_bytes() for file in files}

    def make(draw):
        file = draw.choice(files)
        if file.suffix == ".json" and draw.random() < 0.5:
            return file, json.dumps(changed_values(json.loads(contents[file]), draw)).encode()
        return file, changed_bytes(contents[file], draw)

    def read(given):
        for file, content in contents.items():
            file.write_bytes(given[1] if file == given[0] else content)
        tokenizer = load_tokenizer(str(folder))
        word_start_table(tokenizer)
        TextEncoder(tokenizer, 20)([TEXT, "天地 [SEP]"])

    only_user_errors(read, inputs, make, kind)


@pytest.mark.parametrize("inputs", INPUTS)
def test_runs(tmp_path, inputs, capsys):
    """The report is made of the run that is whole, and the other is in it or listed."""
    write_run(tmp_path / "whole", [0.5, 0.75], seed=1)
    write_run(tmp_path / "other", [0.5, 0.75])
    written = {name: (tmp_path / "other" / name).read_bytes() for name in ("config.yaml", "results.json")}
    written["model/config.json"] = json.dumps({"num_hidden_layers": 4, "halting": "act", "time_penalty": 0.1}).encode()
    language_model = {"task": "pretraining", "data": {"corpus": ["a", {"path": "b"}]}}
    results = {"data": {"documents": 3, "tokens": 7}, "val/accuracy/mlm": 0.5, "val/depth_low/cls": 1, "task": None}
    results |= {"val/source/a/accuracy/mlm": 0.3}
    (tmp_path / "other/model").mkdir()

    def make(draw):
        content = {n: (yaml.safe_load if "yaml" in n else json.loads)(text) for n, text in written.items()}
        if draw.random() < 0.5:
            content["config.yaml"] |= language_model
            content["results.json"] |= results
        name = draw.choice([*content])
        content[name] = changed_values(content[name], draw)
        texts = {name: (yaml.safe_dump if "yaml" in name else json.dumps)(values) for name, values in content.items()}
        if draw.random() < 0.2:
            return texts | {name: changed_bytes(texts[name].encode(), draw)}
        return texts

    def read(given):
        for name, text in given.items():
            (tmp_path / "other" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        found = survey([str(tmp_path)])
        runs, unnamed = name_runs(found.runs)
        records, left_out = read_records(found, "glue")
        assert any(run.directory.path.name == "whole" for run in runs)
        assert len(trained_table(runs).rows) == len(runs)
        if any(run.is_language_model for run in runs):
            kinds_tables(runs)
        glue_blocks(records)
        used = {run.directory.path.name for run in runs} & {"other"}
        if not used:
            raise UserError(str([*found.left_out, *unnamed, *left_out][0].reason))

    only_user_errors(read, inputs, make)


@pytest.mark.parametrize("inputs", INPUTS)
def test_tables_in_parquet(tmp_path, inputs):
    table = token_table(sentences=6)
    table.to_parquet(tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()

    def make(draw):
        if draw.random() < 0.5:
            return changed_bytes(content, draw)
        changed = table.copy()
        name = draw.choice([*table])
        value = draw.choice([None, -1, 0, 1.5, "x", float("nan"), float("inf"), 2**62, True, "drop", "one", "object"])
        if value == "drop":
            return changed.drop(columns=name)
        if value == "one":
            changed[name] = changed[name].astype(object)
            changed.loc[draw.randrange(len(changed)), name] = None
            return changed
        changed[name] = [[1]] * len(changed) if value == "object" else value
        return changed

    def read(given):
        file = tmp_path / "it.parquet"
        if isinstance(given, bytes):
            file.write_bytes(given)
        else:
            given.to_parquet(file)
        treebank_blocks(join_tokens([(file, read_table(file))]))

    only_user_errors(read, inputs, make)
