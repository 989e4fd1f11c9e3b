"""Encoders from timm: three feature maps at strides 8, 16 and 32.

Any timm model with these strides can be used; the published one is `efficientnetv2_rw_t`. State-dict keys are timm's.
Shapes: B images, H x W pixels, C_i channels of map i.
"""

import difflib
import http.client
import inspect
import os
import ssl
import urllib.error
import urllib.request
from typing import Any

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from torch import nn

from utils.errors import UserError

STRIDES = [8, 16, 32]
PROBE_SECONDS = 15


def create_encoder(name: str, drop_path: float = 0.0, imagenet: bool = False, in_channels: int = 3) -> nn.Module:
    """Build a timm encoder.

    Args:
        name: timm model name, with or without a pretrained tag.
        drop_path: probability of stochastic depth in training, 0 <= drop_path < 1.
        imagenet: load timm's ImageNet weights, from the local cache or from the network; otherwise they are random.
        in_channels: of the images; timm adapts the ImageNet weights of three channels to another number.

    Returns:
        A `features_only` module; call it through `encode`.

    Raises:
        UserError: unknown name, no strides 8, 16 and 32, no drop path in this encoder, or weights that
            are not in the cache and cannot be downloaded.
    """
    plain = _build(name, {})
    strides = [info["reduction"] for info in getattr(plain, "feature_info", [])]
    if not set(STRIDES) <= set(strides):
        raise UserError(f"--backbone {name}: expected feature maps at strides {STRIDES}, found {strides}")
    options = _accepted_options(name, type(plain), drop_path)
    if imagenet:
        options |= {"pretrained": True, "pretrained_cfg_overlay": _weights_within_reach(name)}
    # Of several maps of one stride, the last is the deepest.
    indices = [len(strides) - 1 - strides[::-1].index(stride) for stride in STRIDES]
    return _build(name, {**options, "features_only": True, "out_indices": indices, "in_chans": in_channels})


def encoder_channels(encoder: nn.Module) -> list[int]:
    """Return the channels C_i of the encoder's three maps."""
    return encoder.feature_info.channels()


def encode(encoder: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Encode images.

    Args:
        encoder: of `create_encoder`.
        images: (B, 3, H, W) float, normalised; or with `in_channels` channels. Some encoders need sides that are
            multiples of a patch or window.

    Returns:
        Three maps (B, C_i, about H / stride, about W / stride) at strides 8, 16, 32, channels first.
    """
    maps = encoder(images)
    channels_last = getattr(encoder, "output_fmt", "NCHW") == "NHWC"
    return [x.permute(0, 3, 1, 2) if channels_last else x for x in maps]


def _build(name: str, options: dict[str, Any]) -> nn.Module:
    """Build a timm model; raise a UserError for a wrong name, a wrong tag or a failed download."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=5)
        raise UserError(f"--backbone {name}: not a timm model; near names: {', '.join(near) or 'none'}")
    try:
        return timm.create_model(name, **options)
    except (RuntimeError, OSError) as error:  # wrong tag, failed download
        hint = "; --no-imagenet starts from random weights" if options.get("pretrained") else ""
        raise UserError(f"--backbone {name}: timm says: {str(error).splitlines()[0]}{hint}") from error


def _accepted_options(name: str, model_class: type, drop_path: float) -> dict[str, float | bool]:
    """Return the constructor options that this timm class has."""
    accepted = inspect.signature(model_class).parameters
    if drop_path and "drop_path_rate" not in accepted:
        raise UserError(f"--backbone {name}: has no drop path, expected drop path 0, found {drop_path}")
    # strict_img_size: of window transformers, which otherwise accept their pretraining size only
    options = {"drop_path_rate": drop_path, "strict_img_size": False}
    return {option: value for option, value in options.items() if option in accepted}


def _weights_within_reach(name: str) -> dict[str, str]:
    """Find ImageNet weights before timm asks for them: without a network, its client retries for a minute.

    Returns:
        {"file": path} for weights already on this machine, {} for weights that timm will download.
    """
    config = timm.get_pretrained_cfg(name)
    url = constants.ENDPOINT if config.hf_hub_id else config.url
    if not url:
        raise UserError(f"--backbone {name}: timm has no weights for it; --no-imagenet starts from random ones")
    cached = _cached_file(config)
    if cached:
        return {"file": cached}
    if not is_reachable(url):
        problem = f"its ImageNet weights are not in the local cache and {url} cannot be reached"
        advice = "connect, name a file with --encoder_weights, or start from random weights with --no-imagenet"
        raise UserError(f"--backbone {name}: {problem}: {advice}")
    return {}


def _cached_file(config: timm.models.PretrainedCfg) -> str | None:
    """Return the path of the weights in the cache of huggingface_hub or of torch.hub, or None."""
    if not config.hf_hub_id:
        path = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(config.url))
        return path if os.path.exists(path) else None
    names = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    found = [try_to_load_from_cache(config.hf_hub_id, name) for name in names]
    return next((path for path in found if isinstance(path, str)), None)


def is_reachable(url: str) -> bool:
    """Return whether the server of `url` answers within PROBE_SECONDS.

    An error page is an answer, and so is a certificate that only the client of timm may trust.
    """
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS).close()
    except (OSError, http.client.HTTPException) as error:
        certificate = isinstance(getattr(error, "reason", None), ssl.SSLError)
        return certificate or isinstance(error, urllib.error.HTTPError)
    return True
