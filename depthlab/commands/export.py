"""`depthlab export`: a run becomes a directory in Hugging Face's form, any model an ONNX graph."""

import importlib
from pathlib import Path
from typing import Literal

from transformers.utils import logging

from depthlab.errors import UserError
from depthlab.files import check_new
from depthlab.models.export import write_export
from depthlab.reports.card import write_card
from depthlab.run.checkpoints import whole_checkpoint


def export(
    *,
    checkpoint: str,
    to: str,
    dtype: Literal["float32", "float16", "bfloat16", "int8"] = "float32",
    onnx: bool = False,
) -> None:
    """Write a run's checkpoint as a Hugging Face directory: config, safetensors, tokenizer, model card, settings.

    Args:
        checkpoint: a run's directory, or the `last.ckpt` in it; with --onnx also a model's directory, or an ALBERT's.
        to: the directory to write; it must not exist yet, or be empty.
        dtype: precision of the weights. Halting is decided in float32 whatever they are. int8 is for --onnx.
        onnx: write a graph for onnxruntime instead, `model.onnx`, with config and tokenizer; in float32 or int8.

    Raises:
        UserError: the checkpoint is missing or not one of depthlab's; the directory is not empty or can't be written;
            the model has no form in ONNX.
    """
    target = Path(to).absolute()
    check_new("--to", target)
    if onnx != (dtype == "int8") and dtype != "float32":
        raise UserError(
            "--dtype int8 needs --onnx" if dtype == "int8" else f"--onnx has no --dtype {dtype}, only float32 and int8"
        )
    if onnx:
        logging.disable_progress_bar()
        try:
            written = importlib.import_module("depthlab.models.onnx.export").write_onnx(checkpoint, target, dtype)
        except ModuleNotFoundError as error:
            if error.name != "onnx":
                raise
            raise UserError("--onnx needs the package onnx: pip install 'depthlab[onnx]'") from None
        print(f"written to   {written}")
        return
    exported = write_export(whole_checkpoint(Path(checkpoint)) or Path(checkpoint), target, write_card, dtype)
    print(f"written to   {exported}\nfiles        {exported.files()}")
