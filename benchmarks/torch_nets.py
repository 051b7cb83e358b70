"""The benchmarks' networks in PyTorch, and their parameters to and from JAX.

Channels come first, as torch likes them; a dense layer that follows or feeds positions has its
weights permuted at the transfer, so nothing is transposed while training. `forward(x, y, noise)`
gives the loss of every example.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import workloads as w


class PositionDense(nn.Module):
    """Weights of its own at every position: (batch, length, in) to (batch, out, length)."""

    def __init__(self, length: int, channels: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(length, channels, features))
        self.bias = nn.Parameter(torch.zeros(length, features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("blc,lcf->bfl", x, self.weight) + self.bias.T


class GroupedPositions(nn.Module):
    """The same by a grouped convolution, for modes that know torch's own layers alone."""

    def __init__(self, length: int, channels: int, features: int) -> None:
        super().__init__()
        self.shape = (length, features)
        self.conv = nn.Conv1d(length * channels, length * features, 1, groups=length)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x.flatten(1)[..., None])
        return y.view(-1, *self.shape).transpose(1, 2)


def _positions(grouped: bool) -> Any:
    return GroupedPositions if grouped else PositionDense


def _conv(channels: int, features: int) -> nn.Conv1d:
    return nn.Conv1d(channels, features, 3, padding=1)


def _divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    return 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(dim=1)


class _Coded(nn.Module):
    """Looks up the features of codes. Tables are no buffers: Opacus refuses those."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.features = torch.tensor(w.features(), device=device)
        self.prior = torch.tensor(w.prior(), device=device)
        self.columns = torch.arange(len(w.WIDTHS), device=device)

    def seen(self, codes: torch.Tensor) -> torch.Tensor:
        return self.features[self.columns, codes]


class CardioVae(_Coded):
    def __init__(self, device: str, grouped: bool) -> None:
        super().__init__(device)
        vae, position = w.VAE, _positions(grouped)
        self.grouped = grouped
        flat = vae.columns * vae.channels
        self.shape = (vae.channels, vae.columns)
        self.read = position(vae.columns, vae.order, vae.channels)
        self.mix = _conv(vae.channels, vae.channels)
        self.mean = nn.Linear(flat, vae.latent)
        self.log_variance = nn.Linear(flat, vae.latent)
        self.spread = nn.Linear(vae.latent, flat)
        self.unmix = _conv(vae.channels, vae.channels)
        self.heads = position(vae.columns, vae.channels, vae.order)
        self.fading = torch.exp(-torch.arange(vae.latent, device=device) / 5)

    layers: ClassVar = {
        "encoder/PositionDense_0": ("read", "position"),
        "encoder/Conv1d_0": ("mix", "conv"),
        "encoder/Dense_0": ("mean", "after positions"),
        "encoder/Dense_1": ("log_variance", "after positions"),
        "decoder/Dense_0": ("spread", "before positions"),
        "decoder/Conv1d_0": ("unmix", "conv"),
        "decoder/PositionDense_0": ("heads", "position"),
    }

    def forward(self, x: torch.Tensor, y: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        h = self.read(self.seen(x) * 0.5)
        h = (h + torch.tanh(self.mix(h))).flatten(1)
        mean, log_variance = self.mean(h), self.log_variance(h).clamp(-6.0, 2.0)
        z = mean + torch.exp(log_variance / 2) * noise
        h = self.spread(z * self.fading).view(-1, *self.shape)
        h = h + torch.tanh(self.unmix(h))
        if self.grouped and h.requires_grad:
            h.register_hook(torch.Tensor.contiguous)  # expanded weights take no other signal
        weights = self.heads(h.transpose(1, 2))
        logits = torch.einsum("bfl,lwf->blw", weights, self.features) + self.prior
        likelihood = F.log_softmax(logits, dim=-1).gather(2, x[..., None]).sum(dim=(1, 2))
        return _divergence(mean, log_variance) - likelihood


class CardioScore(_Coded):
    """Discriminator and labeler: a linear path beside a convolution."""

    layers: ClassVar = {
        "Dense_0": ("linear", "dense"),
        "PositionDense_0": ("read", "position"),
        "Conv1d_0": ("mix", "conv"),
        "Dense_1": ("hidden", "after positions"),
        "Dense_2": ("score", "dense"),
    }

    def __init__(self, device: str, grouped: bool, model: Any, labels: bool) -> None:
        super().__init__(device)
        columns = len(w.WIDTHS)
        self.labels = labels
        self.scale = torch.full((columns, 1), 0.5, device=device)
        if labels:
            self.scale[w.LABEL] = 0
        self.linear = nn.Linear(columns * w.ORDER, 1)
        self.read = _positions(grouped)(columns, w.ORDER, model.channels)
        self.mix = _conv(model.channels, model.channels)
        self.hidden = nn.Linear(columns * model.channels, model.hidden)
        self.score = nn.Linear(model.hidden, 1)

    def forward(self, x: torch.Tensor, y: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        seen = self.seen(x) * self.scale
        bend = torch.tanh if self.labels else lambda t: F.leaky_relu(t, 0.2)
        h = self.read(seen)
        h = (h + bend(self.mix(h))).flatten(1)
        logit = (self.linear(seen.flatten(1)) + self.score(bend(self.hidden(h))))[:, 0]
        sign = torch.where(x[:, w.LABEL] == 1, -1.0, 1.0) if self.labels else -1.0
        return F.softplus(sign * logit)


class SepsisVae(nn.Module):
    layers: ClassVar = {
        "encoder/Conv1d_0": ("read", "conv"),
        "encoder/Conv1d_1": ("mix", "conv"),
        "encoder/Dense_0": ("mean", "after positions"),
        "encoder/Dense_1": ("log_variance", "after positions"),
        "decoder/Dense_0": ("spread", "before positions"),
        "decoder/Conv1d_0": ("unmix", "conv"),
        "decoder/Conv1d_1": ("heads", "conv"),
    }

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.channels = channels
        flat = w.HOURS * channels
        self.read, self.mix = _conv(w.SIGNALS, channels), _conv(channels, channels)
        self.mean, self.log_variance = nn.Linear(flat, w.LATENT), nn.Linear(flat, w.LATENT)
        self.spread = nn.Linear(w.LATENT, flat)
        self.unmix, self.heads = _conv(channels, channels), _conv(channels, w.SIGNALS)

    def forward(self, x: torch.Tensor, y: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.read(x))
        h = (h + torch.tanh(self.mix(h))).flatten(1)
        mean, log_variance = self.mean(h), self.log_variance(h).clamp(-6.0, 2.0)
        z = mean + torch.exp(log_variance / 2) * noise
        h = self.spread(z).view(-1, self.channels, w.HOURS)
        seen = self.heads(h + torch.tanh(self.unmix(h)))
        return _divergence(mean, log_variance) + 0.5 * (x - seen).square().sum(dim=(1, 2))


class SepsisScore(nn.Module):
    layers: ClassVar = {
        "Conv1d_0": ("read", "conv"),
        "Conv1d_1": ("mix", "conv"),
        "Dense_1": ("hidden", "after positions"),
        "Dense_0": ("score", "dense"),
    }

    def __init__(self, model: Any, labels: bool) -> None:
        super().__init__()
        self.labels = labels
        self.read = _conv(w.SIGNALS, model.channels)
        self.mix = _conv(model.channels, model.channels)
        self.hidden = nn.Linear(w.HOURS * model.channels, model.hidden)
        self.score = nn.Linear(model.hidden, 1)

    def forward(self, x: torch.Tensor, y: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.read(x))
        h = (h + torch.tanh(self.mix(h))).flatten(1)
        logit = self.score(torch.tanh(self.hidden(h)))[:, 0]
        return F.softplus((torch.where(y == 1, -1.0, 1.0) if self.labels else -1.0) * logit)


class Perceptron(nn.Module):
    layers: ClassVar = {"Dense_0": ("score", "dense"), "Dense_1": ("hidden", "dense")}

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.hidden, self.score = nn.Linear(w.PIXELS, hidden), nn.Linear(hidden, w.DIGITS)

    def forward(self, x: torch.Tensor, y: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.score(F.relu(self.hidden(x))), y, reduction="none")


def network(name: str, device: str, *, grouped: bool = False) -> Any:
    """The torch network of a workload; `grouped` where a mode needs torch's own layers."""
    if name == "cardio-vae":
        net: nn.Module = CardioVae(device, grouped)
    elif name in ("cardio-discriminator", "cardio-labeler"):
        labels = name == "cardio-labeler"
        net = CardioScore(device, grouped, w.LABELER if labels else w.CRITIC, labels)
    elif name == "sepsis-vae":
        net = SepsisVae()
    elif name in ("sepsis-discriminator", "sepsis-labeler"):
        labels = name == "sepsis-labeler"
        net = SepsisScore(w.STAY_LABELER if labels else w.STAY_CRITIC, labels)
    else:
        net = Perceptron()
    return net.to(device)


# -- parameters ----------------------------------------------------------------------------------


def _arranged(kind: str, leaf: str, value: np.ndarray, positions: int) -> np.ndarray:
    """A JAX leaf with torch's axes: nothing but a permutation of its numbers."""
    if kind == "position":
        return value
    if kind == "grouped":
        if leaf == "bias":
            return value.ravel()
        return value.transpose(0, 2, 1).reshape(-1, value.shape[1], 1)
    if kind == "before positions":
        kernel = value.reshape(-1, positions, value.shape[-1] // positions)
        kernel = kernel.transpose(2, 1, 0).reshape(value.shape[-1], -1)
        return kernel if leaf == "kernel" else kernel[:, 0]
    if leaf == "bias":
        return value
    if kind == "conv":
        return value.transpose(2, 1, 0)
    if kind == "after positions":
        split = value.reshape(positions, -1, value.shape[1])
        return split.transpose(2, 1, 0).reshape(value.shape[1], -1)
    return value.T


def leaves(net: Any, params: Any) -> list[tuple[list[str], torch.nn.Parameter, np.ndarray]]:
    """Every JAX leaf: its path, torch's parameter, and where each of its numbers comes from.

    The last is an index array of the parameter's shape into the flattened JAX leaf.
    """
    found = []
    positions = w.HOURS if isinstance(net, SepsisVae | SepsisScore) else len(w.WIDTHS)
    for path, (attribute, kind) in net.layers.items():
        module = getattr(net, attribute)
        if isinstance(module, GroupedPositions):
            module, kind = module.conv, "grouped"
        node = params
        for part in path.split("/"):
            node = node[part]
        for leaf, parameter in (("kernel", module.weight), ("bias", module.bias)):
            index = np.arange(node[leaf].size).reshape(node[leaf].shape)
            arranged = _arranged(kind, leaf, index, positions)
            found.append(([*path.split("/"), leaf], parameter, arranged))
    return found


def set_params(net: Any, params: Any) -> None:
    """Give the torch network the JAX network's parameters."""
    for path, parameter, index in leaves(net, params):
        value = np.asarray(_at(params, path), np.float32).ravel()[index]
        parameter.data.copy_(torch.from_numpy(value))


def as_jax(net: Any, params: Any, gradients: dict[int, torch.Tensor]) -> Any:
    """Torch's gradients, by `id` of the parameter, as a tree like `params`."""
    tree: dict[str, Any] = {}
    for path, parameter, index in leaves(net, params):
        flat = np.empty(index.size, np.float32)
        flat[index.ravel()] = gradients[id(parameter)].detach().cpu().numpy().ravel()
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = flat.reshape(np.shape(_at(params, path)))
    return tree


def _at(tree: Any, path: list[str]) -> Any:
    for part in path:
        tree = tree[part]
    return tree
