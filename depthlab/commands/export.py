"""`depthlab export`: a run becomes a directory in Hugging Face's form."""

from pathlib import Path

from depthlab.files import check_new
from depthlab.models.export import Dtype, write_export
from depthlab.reports.card import write_card
from depthlab.run.checkpoints import whole_checkpoint


def export(*, checkpoint: str, to: str, dtype: Dtype = "float32") -> None:
    """Write a run's checkpoint as a Hugging Face directory: config, safetensors, tokenizer, model card, settings.

    Args:
        checkpoint: a run's directory, or the `last.ckpt` in it.
        to: the directory to write; it must not exist yet, or be empty.
        dtype: precision of the weights. Halting is decided in float32 whatever they are.

    Raises:
        UserError: the checkpoint is missing or not one of depthlab's; the directory is not empty or can't be written.
    """
    target = Path(to).absolute()
    check_new("--to", target)
    exported = write_export(whole_checkpoint(Path(checkpoint)) or Path(checkpoint), target, write_card, dtype)
    print(f"written to   {exported}\nfiles        {exported.files()}")
