"""`depthlab convert`: what others trained becomes a model of ours."""

from pathlib import Path
from typing import Any

from depthlab.data.hub import announce, may_be_on_hub
from depthlab.data.tokenization import load_tokenizer
from depthlab.errors import UserError
from depthlab.files import check_new, writing
from depthlab.models.carried import save_model
from depthlab.models.convert import conversion


def convert(source: str, out: str, **settings: Any) -> None:
    """Turn a trained BERT, ALBERT or albert-act into an adaptive ALBERT: config, safetensors and tokenizer in OUT.

    What SOURCE is, its files say. `--as albert` writes a plain Hugging Face ALBERT, where depth is fixed;
    `--as adaptive_albert` is the default. Weights that are new, dropped or approximated are listed; weights that are
    missing, left over or of another size are refused.

    Args:
        source: a directory in Hugging Face's form, tokenizer included, or a name on its hub.
        out: the directory to write; it must not exist yet, or be empty.
        settings: those of `conversion.convert`.

    Raises:
        UserError: SOURCE has no such model or weights; a setting makes no sense for it, or OUT can't be written.
    """
    target = Path(out).absolute()
    check_new("OUT", target)
    if not Path(source).exists() and may_be_on_hub(source):
        announce(source)
    model, notes = conversion.convert(source, **settings)
    tokenizer = load_tokenizer(source, "SOURCE")
    if len(tokenizer) > model.config.vocab_size:
        raise UserError(
            f"the tokenizer of {source} has {len(tokenizer)} tokens, its model has embeddings for "
            f"{model.config.vocab_size}"
        )
    with writing("to OUT", target) as unfinished:
        save_model(model, unfinished)
        tokenizer.save_pretrained(unfinished)
    print("\n".join([*notes, f"written to   {target}"]))
