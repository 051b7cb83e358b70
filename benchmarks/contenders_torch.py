"""Contenders in PyTorch: the plain step, and Opacus in four modes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
from jax.flatten_util import ravel_pytree

from benchmarks.contender import (
    CLIP_NORM,
    LEARNING_RATE,
    NOISE_MULTIPLIER,
    Contender,
    Problem,
    Running,
    Setting,
    Work,
    cores,
    microbatches,
)
from benchmarks.workloads import Records, Workload, fresh_params

SIZES = (32, 64, 128, 256)
INPUTS = {"cardio": ("codes", "codes"), "sepsis": ("hours", "label"), "mlp": ("pixels", "digit")}


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load(records: Records) -> Any:
    """Records as tensors (x, y): channels first, and indices as torch wants them."""
    import torch

    def tensor(array: np.ndarray) -> Any:
        if array.dtype.kind == "f":
            array = np.ascontiguousarray(array.swapaxes(1, 2)) if array.ndim == 3 else array
            return torch.from_numpy(array).to(device())
        return torch.from_numpy(array.astype(np.int64)).to(device())

    first, second = next(names for names in INPUTS.values() if names[0] in records)
    x = tensor(records[first])
    return x, x if second == first else tensor(records[second])


def _network(workload: Workload, mode: str, params: Any = None) -> Any:
    from benchmarks.torch_nets import network, set_params

    net = network(workload.name, device(), grouped=mode == "ew")
    set_params(net, fresh_params(workload) if params is None else params)
    return net


def _noise(workload: Workload, batch: int) -> Any:
    import torch

    return torch.randn(batch, workload.noise, device=device())


def _adam(net: Any) -> Any:
    import torch

    return torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)


Pass = Callable[[Any, Any, Any], None]
"""`backward(x, y, noise)`: gradients of one microbatch, left where the optimiser looks for them."""


def _running(
    workload: Workload,
    loaded: Any,
    batch: int,
    setting: Setting,
    backward: Pass,
    optimiser: Any,
    private: bool,
) -> Running:
    """Steps over fixed batches; more than one microbatch is what Opacus calls virtual steps."""
    import torch

    size = setting["microbatch"] or batch
    threads = setting["threads"]
    x, y = loaded[0][:batch], loaded[1][:batch]

    def step() -> None:
        noise = _noise(workload, batch)
        optimiser.zero_grad(set_to_none=True)
        for start in range(0, batch, size):
            part = slice(start, start + size)
            backward(x[part], y[part], noise[part])
            if private and start + size < batch:
                optimiser.signal_skip_step()
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
        optimiser.step()

    def running(steps: int) -> Work:
        torch.set_num_threads(threads)
        for _ in range(steps):
            step()
        if device() == "cuda":
            torch.cuda.synchronize()
        return Work(steps, steps * batch)

    return running


def _start_plain(workload: Workload, loaded: Any, batch: int, setting: Setting) -> Running:
    net = _network(workload, "plain")
    optimiser = _adam(net)

    def backward(x: Any, y: Any, noise: Any) -> None:
        (net(x, y, noise).sum() / batch).backward()

    return _running(workload, loaded, batch, setting, backward, optimiser, private=False)


# -- Opacus --------------------------------------------------------------------------------------


@cache
def _register_samplers() -> None:
    """Per-example gradients and norms of `PositionDense`, as Opacus has them for its own layers."""
    import torch
    from opacus.grad_sample import register_grad_sampler, register_norm_sampler

    from benchmarks.torch_nets import PositionDense

    @register_grad_sampler(PositionDense)
    def grad_sampler(layer: Any, activations: Any, backprops: Any) -> dict[Any, Any]:
        return {
            layer.weight: torch.einsum("blc,bfl->blcf", activations[0], backprops),
            layer.bias: backprops.transpose(1, 2),
        }

    @register_norm_sampler(PositionDense)
    def norm_sampler(layer: Any, activations: Any, backprops: Any) -> dict[Any, Any]:
        inputs = activations[0].square().sum(dim=2)
        signals = backprops.square().sum(dim=1)
        return {
            layer.weight: (inputs * signals).sum(dim=1).sqrt(),
            layer.bias: signals.sum(dim=1).sqrt(),
        }


class _Losses:
    """A criterion for a network whose output is the losses already."""

    reduction = "mean"

    def __call__(self, losses: Any, target: Any = None, **_: Any) -> Any:
        return losses


def _opacus(mode: str, net: Any, clip_norm: float, sigma: float, batch: int) -> tuple[Any, Pass]:
    """An Opacus optimiser and the pass before its step."""
    from opacus.grad_sample import (
        GradSampleModule,
        GradSampleModuleExpandedWeights,
        GradSampleModuleFastGradientClipping,
    )
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    _register_samplers()
    _quiet()
    wrapper: Any = {
        "hooks": GradSampleModule,
        "functorch": partial(GradSampleModule, force_functorch=True),
        "ew": GradSampleModuleExpandedWeights,
        "ghost": partial(
            GradSampleModuleFastGradientClipping, max_grad_norm=clip_norm, use_ghost_clipping=True
        ),
    }[mode]
    module = wrapper(net, loss_reduction="mean")
    module.train()
    kind = DPOptimizerFastGradientClipping if mode == "ghost" else DPOptimizer
    optimiser = kind(
        _adam(net), noise_multiplier=sigma, max_grad_norm=clip_norm, expected_batch_size=batch
    )
    if mode == "ghost":
        criterion = DPLossFastGradientClipping(module, optimiser, _Losses())

        def backward(x: Any, y: Any, noise: Any) -> None:
            criterion(module(x, y, noise), y).backward()

    else:

        def backward(x: Any, y: Any, noise: Any) -> None:
            module(x, y, noise).mean().backward()

    return optimiser, backward


def _quiet() -> None:
    """Hooks warn of every network input that needs no gradient; that is as it should be."""
    warnings.filterwarnings("ignore", message=".*[Ff]ull backward hook.*")
    warnings.filterwarnings("ignore", category=FutureWarning)


def _start_opacus(
    mode: str, workload: Workload, loaded: Any, batch: int, setting: Setting
) -> Running:
    net = _network(workload, mode)
    optimiser, backward = _opacus(mode, net, CLIP_NORM, NOISE_MULTIPLIER, batch)
    return _running(workload, loaded, batch, setting, backward, optimiser, private=True)


def _opacus_sum(mode: str, workload: Workload, problem: Problem) -> np.ndarray:
    import torch

    from benchmarks.torch_nets import as_jax

    net = _network(workload, mode, problem.params)
    batch = len(problem.noise)
    optimiser, backward = _opacus(mode, net, problem.clip_norm, 0.0, batch)
    x, y = load(problem.examples)
    noise = torch.from_numpy(np.array(problem.noise)).to(device())
    for part in (slice(0, batch // 2), slice(batch // 2, batch)):
        backward(x[part], y[part], noise[part])
        optimiser.signal_skip_step()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    gradients = {id(parameter): parameter.summed_grad for parameter in net.parameters()}
    return np.asarray(ravel_pytree(as_jax(net, problem.params, gradients))[0], np.float64)


def contenders() -> Iterator[Contender]:
    """Plain PyTorch and Opacus."""

    def settings(workload: Workload, batch: int) -> list[Setting]:
        sizes = microbatches(batch, SIZES)
        found: list[Setting] = [{"microbatch": size, "threads": cores()} for size in sizes]
        if cores() > 1:  # small layers may lose more to handing work out than they gain
            found += [{"microbatch": None, "threads": 1}]
        return found

    for mode in ("hooks", "functorch", "ew", "ghost"):
        yield Contender(
            f"opacus-{mode}",
            needs=("torch", "opacus"),
            rival="pytorch",
            private=True,
            settings=settings,
            load=load,
            start=partial(_start_opacus, mode),
            clipped_sum=partial(_opacus_sum, mode),
            holds=mode != "ghost",
        )
    yield Contender(
        "pytorch",
        needs=("torch",),
        rival="pytorch",
        private=False,
        settings=settings,
        load=load,
        start=_start_plain,
    )
