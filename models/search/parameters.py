"""The three sets of parameters: architecture logits, weights, and the frozen rest.

Logits are parameters named `alpha_*`. The first two are a disjoint, complete, ordered partition of what is trainable.
"""

from typing import Any

from torch import nn

from utils.errors import UserError


def arch_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the trainable architecture logits, in registration order."""
    return [p for name, p in model.named_parameters() if p.requires_grad and _is_logit(name)]


def weight_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return all other trainable parameters, in registration order."""
    return [p for name, p in model.named_parameters() if p.requires_grad and not _is_logit(name)]


def check_searchables(model: nn.Module) -> None:
    """Refuse a model with logits that belong to no supernet of `model.searchables()`.

    Such logits would be trained, but no genotype would be derived from them.

    Raises:
        UserError: the model has such logits, or no supernet.
    """
    places = [supernet for part in model.searchables().values() for supernet in part.values()]
    owned = {id(p) for supernet in places for p in supernet.parameters()}
    lost = [name for name, p in model.named_parameters() if _is_logit(name) and id(p) not in owned]
    name = type(model).__name__
    if lost:
        expected = "expected architecture parameters of the supernets that searchables() gives"
        advice = "name them otherwise than alpha_*, or add their supernet"
        raise UserError(f"{name}: {lost[0]}: {expected}, found {len(lost)} of none: {advice}")
    if not places:
        raise UserError(f"{name}: expected supernets in searchables(), found none: nothing to search")


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def supernets(places: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Return those of some modules that are supernets: they have a search space and a stage."""
    return {place: module for place, module in places.items() if hasattr(module, "space") and hasattr(module, "stage")}


def freeze(module: nn.Module) -> None:
    """Take the module out of training for good: no gradients here, eval mode by the owner's `train`."""
    module.requires_grad_(False)
    module.eval()


class FrozenEncoders(nn.Module):
    """Encoders whose parameters are frozen unless `unfreeze` is called.

    They are always in eval mode, so that norms keep the statistics of pretraining.
    """

    def unfreeze(self) -> None:
        """Make the parameters trainable."""
        self.requires_grad_(True)

    @property
    def frozen(self) -> bool:
        return not any(p.requires_grad for p in self.parameters())

    def train(self, mode: bool = True) -> "FrozenEncoders":
        return super().train(False)


class KeepsEncoder(nn.Module):
    """A network that learns with its encoder, unless `keep_encoder` is called.

    A kept encoder is always in eval mode, so that its norms keep their statistics. A subclass says what the encoder is.
    """

    encoder_kept = False

    def encoder_modules(self) -> list[nn.Module]:
        """Return the modules that the encoder consists of."""
        raise NotImplementedError

    def keep_encoder(self, trainable: bool) -> None:
        """Keep the statistics of the encoder's norms, and unless they are `trainable`, its parameters."""
        self.encoder_kept = True
        self.streams.requires_grad_(trainable)

    @property
    def streams(self) -> nn.ModuleList:
        """The encoder that is kept, for an optimiser with a learning rate of its own; empty where it is not."""
        return nn.ModuleList(self.encoder_modules() if self.encoder_kept else ())

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self.streams.train(False)
        return self


def _is_logit(name: str) -> bool:
    return name.rpartition(".")[2].startswith("alpha_")
