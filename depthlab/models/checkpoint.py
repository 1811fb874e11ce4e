"""Models from what was trained before: a run of depthlab, an exported directory, any ALBERT of Hugging Face."""

import math
import pickle
import re
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig

from depthlab.errors import UserError
from depthlab.files import shipped
from depthlab.hub_errors import first_line, loaded, quietly, reason, retried
from depthlab.models.albert import AdaptiveAlbertConfig, AdaptiveAlbertModel, AdaptiveAlbertPreTrainedModel
from depthlab.models.heads import (
    AdaptiveAlbertForMaskedLM,
    AdaptiveAlbertForPreTraining,
    AdaptiveAlbertForSequenceClassification,
    AdaptiveAlbertForTokenClassification,
)
from depthlab.models.trained import READABLE, check_unit
from depthlab.models.untied import AdaptiveBertConfig
from depthlab.run.checkpoints import whole_checkpoint
from depthlab.run.directory import find_checkpoint, run_of

Model = TypeVar("Model", bound=AdaptiveAlbertPreTrainedModel)

SHIPPED = ("checkpoints/minilm-adaptive", "checkpoints/minilm-adaptive-mlm")
"""The models that come with depthlab, for sentences and for masked words; they go by these names in any folder."""

OUR_TYPES = ("adaptive_albert", "adaptive_bert", "albert")

MAY_BE_NEW = (
    *("classifier.", "predictions.", "sop_classifier.", "pooler."),
    *("encoder.halting.", "encoder.relaxation."),
)
"""Weights that a checkpoint need not bring: heads, the halting unit where depth was fixed, and what iterations have of
their own where they were all the same."""

ALBERT_DEPTH = {"halting": "fixed", "act_update": "accumulate", "act_cap": "remainder", "halting_bias_init": -4.0}
"""Of a plain ALBERT, which knows nothing of depth: as it was; or, with halting="act", at first about the same."""

LOADING = {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
"""How weights are loaded to be trained: `new_weights` says which are not the checkpoint's."""

HEADS: dict[type[AdaptiveAlbertPreTrainedModel], tuple[str, ...]] = {
    AdaptiveAlbertForPreTraining: ("predictions.bias", "sop_classifier.classifier.weight"),
    AdaptiveAlbertForMaskedLM: ("predictions.bias",),
    AdaptiveAlbertForSequenceClassification: ("classifier.weight", "albert.pooler.weight"),
    AdaptiveAlbertForTokenClassification: ("classifier.weight",),
    AdaptiveAlbertModel: ("embeddings.word_embeddings.weight",),
}
"""Weights that tell whose a checkpoint is; the first class that finds all of its own takes it."""


@dataclass(kw_only=True)
class DepthSettings:
    """How deep a loaded model goes. What is null stays as the checkpoint has it.

    Args:
        num_hidden_layers: L, the cap: the most iterations a token can take; of untied layers the first L are left.
        halting: "act" (a token stops when its halting unit says so), "fixed" (every token L times), or another rule.
        halting_settings: settings of the rule.
        relaxation_rank: rank by which iterations may differ from now on, where the checkpoint's are all the same.
        act_epsilon: slack of the halting threshold.
        act_cap: weight of a last iteration at the cap: "truncate" or "remainder".
        act_update: "blend" or "accumulate".
        halting_bias_init: in training, bias of the halting unit to begin with, in place of the checkpoint's.
        time_penalty: tau, weight of the mean ponder cost in the loss.
        execution: "compact" or "dense".
        attn_implementation: "sdpa" (the default; where that is slow, in training in bfloat16 on a CPU, plain products
            take its place by themselves) or "eager".
        halting_lr_factor: in training, times the learning rate: that of the halting unit or router. With a target it is
            times the rate after the warm-up, to the end.
        new_unit: in training, the halting unit or router begins anew, whatever the checkpoint's has learnt.
        dial: the one number of the halting rule that is turned after training, whatever its name.
        target: in training, the mean depth of all tokens that tau is steered to, beginning with `time_penalty`.
    """

    num_hidden_layers: int | None = None
    halting: str | None = None
    halting_settings: dict[str, Any] | None = None
    relaxation_rank: int | None = None
    act_epsilon: float | None = None
    act_cap: Literal["truncate", "remainder"] | None = None
    act_update: Literal["blend", "accumulate"] | None = None
    halting_bias_init: float | None = None
    time_penalty: float | None = None
    execution: Literal["compact", "dense"] | None = None
    attn_implementation: Literal["sdpa", "eager"] | None = None
    dial: float | None = None
    halting_lr_factor: float = 1.0
    new_unit: bool = False
    target: float | None = None

    def given(self) -> dict[str, Any]:
        """Fields of the configuration that are not null.

        Raises:
            UserError: the factor is out of its range.
        """
        if not 0 <= self.halting_lr_factor < math.inf:
            raise UserError(f"model.depth.halting_lr_factor must be 0 or more, got {self.halting_lr_factor}")
        of_training = ("halting_lr_factor", "new_unit", "target")
        return {name: value for name, value in asdict(self).items() if value is not None and name not in of_training}


@dataclass
class RunCheckpoint:
    """What a run's checkpoint holds of the model; the weights carry the model's own names."""

    config: AdaptiveAlbertConfig
    own: AdaptiveAlbertConfig
    """Without the settings."""
    weights: dict[str, Tensor]
    steps: int
    """Optimiser steps that it was trained for."""


def read_run(path: Path, settings: dict[str, Any] | None = None) -> RunCheckpoint:
    """The model in a run's checkpoint; without a halting unit, if that has not been trained yet: depth was still fixed.

    Settings are fields of the configuration that differ from it.

    Raises:
        UserError: the file is missing or no checkpoint of depthlab's.
    """
    if path.is_dir():
        what = "is a model, not a run" if (path / "config.json").is_file() else "holds no checkpoints/last.ckpt"
        raise UserError(f"--checkpoint {path} {what}: name the directory of a run of `depthlab fit`")
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True) if zipfile.is_zipfile(path) else {}
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError):
        content = {}
    kinds = {"model_config": dict, "state_dict": dict, "global_step": int}
    if not isinstance(content, dict) or not all(isinstance(content.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"{path} is not a checkpoint of a depthlab run")
    if not all(isinstance(weight, Tensor) for weight in content["state_dict"].values()):
        raise UserError(f"{path} is not a checkpoint of a depthlab run: it has weights that are none")
    settings, fixed = settings or {}, {}
    if held := content.get("hold_depth"):  # in runs of before it was a number: True, the cap
        fixed = {"halting": "fixed", **({} if held is True else {"num_hidden_layers": held})}
    try:
        config = _configure(content["model_config"], settings if "halting" in settings else fixed | settings)
        own = _configure(content["model_config"], fixed)
    except UserError:
        raise
    except Exception as error:  # transformers raises anything over fields that are not what they were
        raise UserError(f"{path}: its configuration is of no model ({' '.join(str(error).split())})") from error
    weights = {
        name.removeprefix("model."): weight
        for name, weight in content["state_dict"].items()
        if name.startswith("model.") and not (held and ".halting." in name)
    }
    return RunCheckpoint(config, own, weights, content["global_step"])


def model_of(run: RunCheckpoint) -> AdaptiveAlbertPreTrainedModel:
    """The model with the head that a run's checkpoint has; the base model where it has none.

    Raises:
        UserError: it is no model of depthlab's.
    """
    for model_class, own in HEADS.items():
        if run.weights.keys() >= set(own):
            try:
                model = model_class(run.config)
            except Exception as error:  # modules raise anything over sizes that are none
                raise UserError(f"the checkpoint's configuration is of no model ({first_line(error)})") from error
            try:
                model.load_state_dict(fit_to_depth(run.weights, model, "the checkpoint"))
                model.trained_as = run.own
            except RuntimeError as error:
                raise UserError(f"the checkpoint's weights are not those of its model ({first_line(error)})") from error
            return model
    raise UserError("the checkpoint has no model of depthlab's")


def place_of(checkpoint: str) -> str:
    """Where a checkpoint lies: where its name says, unless it is one that comes with depthlab."""
    is_elsewhere = checkpoint in SHIPPED and not Path(checkpoint).exists()
    return str(shipped(checkpoint) or checkpoint) if is_elsewhere else checkpoint


def fit_to_depth(weights: dict[str, Tensor], model: AdaptiveAlbertPreTrainedModel, what: str) -> dict[str, Tensor]:
    """The weights that a model takes which goes to other depths than those it is of.

    A fixed depth needs no halting unit, and a lower one no untied layers beyond it.

    Raises:
        UserError: it has a halting unit, or layers, that they know nothing of.
    """
    wanted = model.state_dict()
    beyond = re.compile(r"(halting|albert_layer_groups\.(?!0\.)\d+)\.")
    spare = [name for name in weights if beyond.search(name) and name not in wanted]
    if missing := sorted(name for name in wanted if ".halting." in name and name not in weights):
        raise UserError(f"{what} has no {missing[0]}: read it {READABLE}")
    weights = {name: weight for name, weight in weights.items() if name not in spare}
    both = wanted.keys() & weights.keys()
    differing = wanted.keys() ^ weights.keys() | {name for name in both if wanted[name].shape != weights[name].shape}
    if layers := sorted(name for name in differing if "encoder." in name):
        raise UserError(
            f"{what} has layers of its own for each iteration ({layers[0]}): leave num_hidden_layers as it is"
        )
    return weights


def find_tokenizer(checkpoint: str) -> str:
    """Where the tokenizer of a checkpoint lies, for `load_tokenizer`."""
    checkpoint = place_of(checkpoint)
    found = find_checkpoint(checkpoint)
    return checkpoint if found is None else str(run_of(found).tokenizer)


def is_ours(checkpoint: str) -> bool:
    """Whether `load_checkpoint` takes it: a run of ours, or a directory or hub name of an ALBERT.

    Raises:
        UserError: there is neither a run nor a model.
    """
    checkpoint = place_of(checkpoint)
    if find_checkpoint(checkpoint) is not None:
        return True
    return loaded(checkpoint, lambda: AutoConfig.from_pretrained(checkpoint)).model_type in OUR_TYPES


def new_weights(checkpoint: str, info: dict[str, Any]) -> tuple[str, ...]:
    """Names of those that a model has not from its checkpoint; its classifier may have been one of other classes.

    Raises:
        UserError: other weights than a classifier's differ in size.
    """
    for name, theirs, wanted in info["mismatched_keys"]:
        if not name.startswith("classifier."):
            raise UserError(
                f"cannot load {checkpoint}: {name} is {list(theirs)}, its configuration says {list(wanted)}"
            )
    return tuple(sorted({*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}))


def load_checkpoint(model_class: type[Model], checkpoint: str, settings: dict[str, Any] | None = None) -> Model:
    """A model with the weights of a checkpoint, in fp32, whatever they were saved in: it is there to be trained.

    Args:
        model_class: what to make of it; a head that the checkpoint has not is new, as is one for other classes.
        checkpoint: a run's directory (its best checkpoint, or the last) or a checkpoint in it; a directory or hub name
            in Hugging Face's form, of type `adaptive_albert`, `adaptive_bert` or `albert`.
        settings: fields of the configuration that differ from the checkpoint's. An ALBERT stays at fixed depth unless
            they say otherwise, and turns adaptive without a jump (`ALBERT_DEPTH`). So does a run that was left while
            depth was held fixed, with a new halting unit.

    Raises:
        UserError: there is nothing of the kind, weights other than heads and halting unit are missing, or sizes differ;
            the checkpoint's iterations differ already, by another rank; or a bias is given, and what decides has none.
    """
    settings, checkpoint = settings or {}, place_of(checkpoint)
    found = whole_checkpoint(Path(checkpoint))
    if found is not None:
        run = read_run(found, settings)
        source, weights, config, own = None, run.weights, run.config, run.own
    else:
        theirs = _read_config(checkpoint)
        defaults = ALBERT_DEPTH if theirs.model_type == "albert" else {}
        source, weights, config = checkpoint, None, _configure(theirs.to_dict(), defaults | settings)
        own = _configure(theirs.to_dict(), defaults)
    try:
        with quietly():
            given = {"config": config, "state_dict": weights, **LOADING}
            model, info = retried(lambda: model_class.from_pretrained(source, **given))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"cannot load {checkpoint}: {reason(error)}") from error
    new = new_weights(checkpoint, info)
    if missing := [name for name in new if not name.removeprefix("albert.").startswith(MAY_BE_NEW)]:
        raise UserError(f"{checkpoint} lacks {len(missing)} weights of an ALBERT, {missing[0]} the first of them")
    model.new_weights, model.trained_as = new, own
    unit = model.base_model.encoder.halting
    if "halting_bias_init" in settings and unit is not None:
        if not hasattr(unit, "bias"):
            raise UserError(f"model.depth.halting_bias_init: what decides in halting {config.halting} has no bias")
        nn.init.constant_(unit.bias, settings["halting_bias_init"])
    return model.train()  # Hugging Face hands it over in evaluation mode, and Lightning would keep that


def load_as_saved(checkpoint: str, settings: dict[str, Any] | None = None) -> AdaptiveAlbertPreTrainedModel:
    """A model as its checkpoint has it, head included, in fp32 and in evaluation mode.

    Args:
        checkpoint: as in `load_checkpoint`. Where Hugging Face's directory has a head that depthlab does not know, or
            none, it is the base model.
        settings: fields of the configuration that differ from the checkpoint's, such as how deep it goes; the bias of a
            halting unit is as it was trained.

    Raises:
        UserError: there is nothing of the kind, or weights that it needs are missing; or as `check_unit`.
    """
    settings = {name: value for name, value in (settings or {}).items() if name != "halting_bias_init"}
    checkpoint = place_of(checkpoint)
    found = whole_checkpoint(Path(checkpoint))
    if found is not None:
        model = model_of(read_run(found, settings))
    else:
        architectures = _read_config(checkpoint).architectures or ["AlbertModel"]
        kind = re.sub("^(Adaptive)?(Albert|Bert)", "AdaptiveAlbert", architectures[0])
        classes = {model_class.__name__: model_class for model_class in HEADS}
        model = load_checkpoint(classes.get(kind, AdaptiveAlbertModel), checkpoint, settings)
    check_unit(checkpoint, model)
    return model.eval()


def _configure(content: dict[str, Any], settings: dict[str, Any]) -> AdaptiveAlbertConfig:
    """A configuration of the class that its model type names, an `albert` becoming one of ours; then the settings.

    Raises:
        UserError: the settings ask for another rank than that of the iterations' differences in the weights.
    """
    rank = content.get("relaxation_rank", 0)
    if rank not in (0, settings.get("relaxation_rank", rank)):
        raise UserError(f"relaxation_rank is {rank} in the checkpoint and can't be changed: leave the setting out")
    config_class = AdaptiveBertConfig if content.get("model_type") == "adaptive_bert" else AdaptiveAlbertConfig
    rule = {"halting": settings["halting"]} if "halting" in settings else {}
    return config_class.from_dict(config_class.from_dict(content, **rule).to_dict() | settings)


def _read_config(checkpoint: str) -> PreTrainedConfig:
    """Of a directory or hub name in Hugging Face's form, if its model can be one of ours."""
    try:
        kind = retried(lambda: PreTrainedConfig.get_config_dict(checkpoint))[0].get("model_type")
        if kind in OUR_TYPES:
            return AutoConfig.from_pretrained(checkpoint)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load {checkpoint}: {reason(error)}") from error
    if kind is None:
        raise UserError(f"{checkpoint} holds neither a run nor a model (no readable config.json)")
    hint = f"turn it into ours with `depthlab convert {checkpoint} OUT`"
    raise UserError(f"{checkpoint} holds a model of type {kind!r}: {hint}")
