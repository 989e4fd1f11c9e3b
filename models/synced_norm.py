"""Batch norm over the whole batch of which each rank has a share: torch's SyncBatchNorm, on a CPU, too.

torch refuses its own on a CPU. There the same is done here: ranks exchange counts, means and variances forward, two
sums backward (Ioffe and Szegedy, 1502.03167, algorithm 1). Ranks meet only where gradients are taken: what is rated
without them is rated by each rank on batches of its own.

Shapes: x (B, C, ...), of this rank's share of the batch.
"""

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class SyncedNorm(_BatchNorm):
    """Batch norm on a CPU in the place of any other one, whose parameters and buffers it takes over."""

    def _check_input_dim(self, x: Tensor) -> None: ...  # of any number of dimensions

    def forward(self, x: Tensor) -> Tensor:
        """Return x normed, and activated where timm's norms do that, too."""
        meet = self.training and torch.is_grad_enabled()
        out = self.synced(x) if meet else _BatchNorm.forward(self, x)
        return self.act(self.drop(out)) if hasattr(self, "act") else out

    @torch.compiler.disable
    def synced(self, x: Tensor) -> Tensor:
        out, mean, var, count = _Synced.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked += 1
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(var * count / (count - 1), share)
        return out


class SyncedNormOfGpu(nn.SyncBatchNorm):
    """The same by torch's own, on GPUs."""

    forward = SyncedNorm.forward

    def synced(self, x: Tensor) -> Tensor:
        return nn.SyncBatchNorm.forward(self, x)


class _Synced(torch.autograd.Function):
    """Norm a share by mean and variance of the whole batch; returns these, and the count behind them, too."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # As torch's norms count; torch.var_mean takes twenty times as long on channels that are last in memory.
        mean, var = torch.batch_norm_update_stats(x.to(weight.dtype), None, None, 0.0)
        own = torch.cat([mean, var, mean.new_full((1,), x.numel() // x.shape[1])])
        each = own.new_empty(dist.get_world_size() * len(own))
        dist.all_gather_into_tensor(each, own)
        means, variances, counts = each.view(-1, len(own)).split([len(mean), len(mean), 1], dim=1)
        count = counts.sum()
        mean = (means * counts).sum(dim=0) / count
        var = ((variances + (means - mean).square()) * counts).sum(dim=0) / count
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var, count)
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps), mean, var, count

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, count = ctx.saved_tensors
        invstd = (var + ctx.eps).rsqrt()
        # As if mean and variance were constants: what they are changes with every pixel of every share.
        wide, x = gradient.to(weight.dtype), x.to(weight.dtype)  # of bfloat16: one rounding, in the end
        known = wide, x, weight, mean, var, mean, invstd, False, ctx.eps, [True, True, True]
        by_pixel, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(*known)
        sums = torch.stack([by_weight, by_bias])
        dist.all_reduce(sums)
        of_weight, of_bias = sums / count
        slope = -weight * invstd * invstd * of_weight
        shift = -weight * invstd * of_bias - slope * mean
        shape = (1, -1, *[1] * (x.dim() - 2))
        by_pixel.addcmul_(x, slope.view(shape)).add_(shift.view(shape))
        return by_pixel.to(gradient.dtype), by_weight, by_bias, None


def sync_norms(module: nn.Module, device: torch.device) -> None:
    """Put a synchronised norm in the place of every batch norm below a module; state dicts keep their names."""
    kind = SyncedNormOfGpu if device.type == "cuda" else SyncedNorm
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, kind):
            setattr(module, name, _in_place_of(child, kind))
        else:
            sync_norms(child, device)


def _in_place_of(norm: _BatchNorm, kind: type[_BatchNorm]) -> _BatchNorm:
    with torch.device("meta"):  # nothing is allocated
        own = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    own._parameters.update(norm._parameters)
    own._buffers.update(norm._buffers)
    if isinstance(norm, BatchNormAct2d):
        own.drop, own.act = norm.drop, norm.act
    return own.train(norm.training)
