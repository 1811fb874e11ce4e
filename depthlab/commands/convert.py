"""The command `depthlab convert`."""

from pathlib import Path
from typing import Literal, TypedDict, Unpack

from depthlab.files import check_new, writing
from depthlab.models.checkpoint import save_model
from depthlab.models.convert import conversion
from depthlab.models.convert.foreign import read_tokenizer
from depthlab.models.convert.tying import Tie
from depthlab.models.halting.act import ActCap

As = TypedDict("As", {"as": Literal["adaptive_albert", "albert"]}, total=False)  # which is Python's own word


def convert(
    source: str,
    out: str,
    *,
    tie: Tie | None = None,
    embedding_size: int | None = None,
    num_hidden_layers: int | None = None,
    halting: Literal["act", "fixed"] | None = None,
    act_update: Literal["blend", "accumulate"] | None = None,
    act_cap: ActCap | None = None,
    mean_depth: int | float | None = None,
    **kinds: Unpack[As],
) -> None:
    """Turn a trained BERT, ALBERT or albert-act into an adaptive ALBERT: config, safetensors and tokenizer in OUT.

    What SOURCE is, its files say. `--as albert` writes a plain Hugging Face ALBERT, where depth is fixed;
    `--as adaptive_albert` is the default. Weights that are new, dropped or approximated are listed; weights that are
    missing, left over or of another size are refused.

    Args:
        source: a directory in Hugging Face's form, tokenizer included, or a name on its hub.
        out: the directory to write; it must not exist yet, or be empty.
        tie: a BERT: which of its layers becomes the shared one: the first (the default; see experiments/RESULTS.md),
            the last, the average of all, or the layer of that number, counted from 1; or "none", which keeps them all:
            the untied study baseline.
        embedding_size: E. By default SOURCE's (a BERT's hidden size), which is exact; a smaller one factorises the
            embeddings, also those of a model of ours.
        num_hidden_layers: L, the cap; SOURCE's number of layers by default.
        halting: "act", or "fixed": without a halting unit, every token L times. "act" unless SOURCE is fixed already.
        act_update: "accumulate" by default, which turns a fixed depth adaptive without a jump; albert-act: "blend".
        act_cap: "remainder" by default; albert-act: "truncate".
        mean_depth: depth of every token before training, at least 2, at most L, by the bias of a new halting unit; by
            default L.
        kinds: `as`.

    Raises:
        UserError: see above; or a setting makes no sense for this SOURCE, or OUT can't be written.
    """
    target = Path(out).absolute()
    check_new("OUT", target)
    model, notes = conversion.convert(
        source,
        tie=tie,
        embedding_size=embedding_size,
        num_hidden_layers=num_hidden_layers,
        halting=halting,
        act_update=act_update,
        act_cap=act_cap,
        mean_depth=mean_depth,
        as_albert=kinds.get("as") == "albert",
    )
    tokenizer = read_tokenizer(source, model.config.vocab_size)
    with writing("to OUT", target) as unfinished:
        save_model(model, unfinished)
        tokenizer.save_pretrained(unfinished)
    print("\n".join([*notes, f"written to   {target}"]))
