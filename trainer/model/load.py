"""Loads the parts of a base model, frozen, each to its device in its number type."""

from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from trainer.model.base_errors import PartNotLoadedError
from trainer.model.frozen.linear import FrozenLinear
from trainer.model.frozen.weights import Float8Weight
from trainer.model.layouts import BaseModel, expert_config
from trainer.model.sampling import EulerSampler, Sampler
from trainer.model.text import TextEncoder
from trainer.model.weight_source import WeightSource
from trainer.protocol.job import Expert

__all__ = [
    "base_weights",
    "empty_model",
    "expert_config",
    "fill",
    "load_expert",
    "load_text_encoder",
    "load_vae",
    "sampling_scheduler",
]

M = TypeVar("M", bound=nn.Module)

# The class says so, for its own way of loading.
EXPERT_FLOAT32: tuple[str, ...] = tuple(WanTransformer3DModel._keep_in_fp32_modules or ())  # noqa: SLF001


def load_expert(
    base: BaseModel, expert: Expert, dtype: torch.dtype, device: torch.device
) -> WanTransformer3DModel:
    """Load one expert, frozen.

    Weights go to the device one by one, so that the CPU never holds the whole expert.

    Args:
        base: From `open_base`.
        expert: Which of the two.
        dtype: Of the weights, whatever the files have. As the model wants it, norms, modulation
            tables and the time embedding stay in float32.
        device: Where the expert will compute.

    Raises:
        BaseModelError: the files do not make this model.
    """
    source = base.expert_source(expert)
    with _loading(source.place):
        transformer = empty_model(WanTransformer3DModel, source)
        fill(transformer, source, "", dtype, device)
    return transformer.requires_grad_(requires_grad=False).eval()


def empty_model(kind: type[M], source: WeightSource) -> M:
    """A part of diffusers' class with its parameters on the meta device, for `fill`; its buffers are real.

    Raises:
        PartNotLoadedError: weights are missing or of another shape than the model that the config describes.
    """
    maker: Any = kind
    with _loading(source.place), init_empty_weights(include_buffers=False):
        model: M = maker.from_config(dict(source.config))
    _check_weights(model, source)
    return model


def fill(
    module: nn.Module,
    source: WeightSource,
    prefix: str,
    dtype: torch.dtype,
    device: torch.device,
    float32_names: Collection[str] = EXPERT_FLOAT32,
) -> None:
    """Give a module's meta parameters their weights, one by one, and take its buffers to the device.

    Args:
        module: The whole model or a part of it; its parameters are replaced.
        source: Of the whole model's weights.
        prefix: Path of the module within the model, with a dot at its end; empty for the whole.
        dtype: Of the weights, whatever the files have.
        device: Where they go.
        float32_names: Parameters with one of these in their path become float32 instead.

    Raises:
        BaseModelError: a weight is missing, or its file cannot be read.
    """
    made: dict[nn.Parameter, nn.Parameter] = {}
    # A parameter that has two names stays one.
    for path, empty in list(module.named_parameters(remove_duplicate=False)):
        if empty not in made:
            name = f"{prefix}{path}"
            kept = any(part in float32_names for part in name.split("."))
            weight = source.tensor(name).to(device, torch.float32 if kept else dtype)
            made[empty] = nn.Parameter(weight, requires_grad=False)
        owner, _, leaf = path.rpartition(".")
        setattr(module.get_submodule(owner), leaf, made[empty])
    for path, buffer in list(module.named_buffers()):
        owner, _, leaf = path.rpartition(".")
        setattr(module.get_submodule(owner), leaf, buffer.to(device))


def base_weights(base: BaseModel, expert: Expert) -> Callable[[str], Tensor]:
    """A reader of an expert's weights from disk, one at a time, by the path of their layer.

    Raises:
        BaseModelError: the files are missing or damaged; the reader raises it too.
    """
    source = base.expert_source(expert)
    return lambda path: source.tensor(f"{path}.weight")


def load_vae(base: BaseModel, device: torch.device, dtype: torch.dtype = torch.float32) -> AutoencoderKLWan:
    """Load the VAE, frozen; by default in float32: it is small, and its errors would stay in every cached latent.

    Raises:
        BaseModelError: the files do not make this model.
    """
    source = base.vae_source()
    with _loading(source.place):
        vae = empty_model(AutoencoderKLWan, source)
        fill(vae, source, "", dtype, device, ())
    return vae.requires_grad_(requires_grad=False).eval()


def load_text_encoder(
    base: BaseModel, dtype: torch.dtype, device: torch.device, *, float8: bool = False
) -> TextEncoder:
    """Load the tokenizer and the text encoder, frozen.

    Args:
        base: From `open_base`.
        dtype: That it computes in.
        device: Where.
        float8: Store its linears in 8 bits, each rounded before the next is read.

    Raises:
        BaseModelError: the files do not make them.
    """
    tokenizer = base.open_tokenizer()
    source = base.text_source()
    # On the meta device altogether: it has no buffers, and its two names for the embeddings stay one.
    with _loading(source.place), torch.device("meta"):
        encoder = UMT5EncoderModel(UMT5Config.from_dict(dict(source.config)))
    _check_weights(encoder, source)
    with _loading(source.place):
        if float8:
            _store_linears_in_float8(encoder, source, dtype, device)
        # The class keeps them apart from float16, whose range they leave.
        fill(encoder, source, "", dtype, device, ("wo",) if dtype is torch.float16 else ())
    return TextEncoder(tokenizer, encoder.requires_grad_(requires_grad=False).eval())


def _store_linears_in_float8(
    model: nn.Module, source: WeightSource, dtype: torch.dtype, device: torch.device
) -> None:
    linears = [(path, one) for path, one in model.named_modules() if type(one) is nn.Linear]
    for path, linear in linears:
        weight = Float8Weight.quantized(source.tensor(f"{path}.weight").to(device))
        owner, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(owner), leaf, FrozenLinear(weight, linear.bias, dtype=dtype))


def sampling_scheduler(base: BaseModel, sampler: Literal["unipc", "euler"], shift: float) -> Sampler:
    """The sampler over flow noise levels; both have the same levels for the same steps and shift.

    Args:
        base: Gives UniPC's settings that are not fixed here.
        sampler: UniPC, which Wan uses, or Euler.
        shift: Flow shift, above 0; larger ones spend more steps at high noise.

    Raises:
        BaseModelError: the scheduler's config cannot be read.
    """
    if sampler == "euler":
        return EulerSampler(shift)
    folder = base.scheduler
    with _loading(folder or base.folder):
        config: Any = (
            {} if folder is None else UniPCMultistepScheduler.load_config(folder, local_files_only=True)
        )
        scheduler = UniPCMultistepScheduler.from_config(
            # Named even if the config has them: folders whose scheduler is of another class lack them.
            config,
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            use_dynamic_shifting=False,
            flow_shift=shift,
        )
    if not isinstance(scheduler, UniPCMultistepScheduler):
        raise PartNotLoadedError(folder or base.folder, "its config makes no scheduler")
    return scheduler


@contextmanager
def _loading(folder: Path) -> Generator[None]:
    """Tell which folder a library's error is about, and keep the global generator as it was.

    Models draw random weights when they are made, even those that loading overwrites.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        problem = str(error).strip().splitlines() or [type(error).__name__]
        raise PartNotLoadedError(folder, problem[0].rstrip(".")) from error


def _check_weights(model: nn.Module, source: WeightSource) -> None:
    """Compare the files' headers with the model that the config describes, before anything is read."""
    wanted = dict(model.named_parameters())
    if missing := sorted(wanted.keys() - source.shapes.keys()):
        raise PartNotLoadedError(
            source.place, f"{len(missing)} of its weights are missing, first {missing[0]}"
        )
    for name, parameter in wanted.items():
        if source.shapes[name] != tuple(parameter.shape):
            raise PartNotLoadedError(
                source.place,
                f"{name} has the shape {source.shapes[name]} instead of {tuple(parameter.shape)}",
            )
