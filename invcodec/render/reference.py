"""The engine for every profile and role on every device, in plain torch: the reference for all others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from invcodec.arrays import Array, on_host
from invcodec.field.profile import MOTION, OCCUPANCY, Recipe, TensorKey
from invcodec.geometry.space import Rays, positions
from invcodec.render import composite
from invcodec.render.composite import Composite, Samples
from invcodec.render.engine import Batch, Pixels, Step, Trainer, owners
from invcodec.render.networks import Network, Networks

_PASS_SAMPLES = {"cpu": 1 << 15, "cuda": 1 << 19}
"""Samples evaluated at once, which bounds memory."""


class _TorchRays(NamedTuple):
    """`Rays` on the device, `[R, 3]` each."""

    origins: torch.Tensor
    directions: torch.Tensor
    view: torch.Tensor


class _Seen(NamedTuple):
    """R rays rendered with one network: `rgb` is `[R, 3]`."""

    rgb: torch.Tensor
    light: Composite


class TorchEngine(Trainer):
    """Renders and trains networks of every profile and role."""

    def __init__(self, networks: Networks, *, device: str = "cpu", threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.networks = networks
        self._shown = networks.shown
        self._device = torch.device(device)
        self._pass_samples = _PASS_SAMPLES.get(self._device.type, _PASS_SAMPLES["cpu"])
        self._noise = torch.Generator(self._device)
        self._mixed = False
        self._specs = networks.tensors
        # By network, then by tensor: profiles read their own weights by name.
        self._weights: dict[str, dict[str, torch.Tensor]] = {network.name: {} for network in networks}
        for (network, name), spec in self._specs.items():
            self._weights[network][name] = torch.zeros(spec.shape, device=self._device)
        self._optimisers: list[_Optimiser] = []
        cells = self._cells(self._shown)
        self._cell_weights = torch.zeros((0, 0, 0) if cells is None else cells.shape, device=self._device)

    def load(self, weights: Mapping[TensorKey, np.ndarray]) -> None:
        with torch.no_grad():
            for (network, name), value in weights.items():
                held = self._weights[network][name]
                held.copy_(torch.tensor(np.asarray(value, np.float32)).reshape(held.shape))

    def warm_up(self) -> None:
        pass  # Nothing is compiled.

    def weights(self) -> dict[TensorKey, np.ndarray]:
        return {
            (network, name): self._weights[network][name].detach().cpu().numpy().copy() for network, name in self._specs
        }

    def occupancy(self) -> np.ndarray | None:
        cells = self._cells(self._shown)
        return None if cells is None else owners(cells.cpu().numpy(), len(self._motion(self._shown)))

    def set_occupancy(self, cells: np.ndarray) -> None:
        self.load({(self._shown.name, OCCUPANCY): cells})

    def take_cell_weights(self) -> np.ndarray:
        seen = self._cell_weights.cpu().numpy().copy()
        self._cell_weights.zero_()
        return seen

    @torch.no_grad()
    def density(self, points: np.ndarray) -> np.ndarray:
        profile = self._shown.profile
        # Density does not depend on the direction.
        out = [
            profile.activate(profile.density(self._weights[self._shown.name], part, part)[0])
            for part in self._tensor(points).split(self._pass_samples)
        ]
        return torch.cat(out).cpu().numpy()

    @torch.no_grad()
    def render(self, rays: Rays, background: np.ndarray) -> Pixels:
        back = self._tensor(background)
        on_device = self._rays(rays)
        n = len(rays)
        out = [torch.empty(shape, device=self._device) for shape in ((n, 3), (n,), (n,))]
        for part in self._passes(n, self.networks.samples):
            piece = _TorchRays(*(a[part] for a in on_device))
            jitter = torch.full((len(piece.view),), 0.5, device=self._device)
            seen = self._trace(piece, jitter, back.expand(len(piece.view), 3), self.networks.samples)[-1]
            for whole, value in zip(out, (seen.rgb, seen.light.opacity, seen.light.s), strict=True):
                whole[part] = value
        return Pixels(*(out if isinstance(rays.origins, torch.Tensor) else map(on_host, out)))

    def begin(
        self, trainable: Collection[TensorKey], price: float, *, delta: bool = False, mixed: bool = False
    ) -> None:
        self._mixed = mixed and _multiplies_bfloat16(self._device)
        self._noise.manual_seed(0)
        self._optimisers = []
        for network in self.networks:
            held = self._weights[network.name]
            chosen = []
            for name in held:
                held[name] = held[name].detach()
                spec = self._specs[network.name, name]
                if (network.name, name) in trainable and not spec.exact:
                    held[name].requires_grad_()
                    lead = name in network.lead
                    chosen.append(_Trained(held[name], lead, 1 / spec.step if lead or delta else 0.0, delta))
            self._optimisers.append(_Optimiser(chosen, network.profile.recipe))
        self.set_price(price)

    def set_price(self, price: float) -> None:
        for optimiser in self._optimisers:
            optimiser.set_price(price)

    def step(self, batch: Batch, lead_rate: float, rate: float, *, samples: int | None = None) -> Step:
        steps = samples or self.networks.samples
        rays = self._rays(batch.rays)
        target, background, weight, jitter = (
            self._tensor(a) for a in (batch.target, batch.background, batch.weight, batch.jitter)
        )
        rgb = torch.empty_like(target)
        loss = torch.zeros((), device=self._device)
        with _coarser_products(self._device):
            for part in self._passes(len(target), steps):
                piece = _TorchRays(*(a[part] for a in rays))
                views = self._trace(piece, jitter[part], background[part], steps, training=True)
                losses = [(weight[part] * (seen.rgb - target[part]).square().mean(1)).sum() for seen in views]
                total = torch.stack(losses).sum()
                # A batch that meets only empty space has no gradient.
                if total.requires_grad:
                    total.backward()
                rgb[part] = views[-1].rgb.detach()
                loss += losses[-1].detach()
        for optimiser in self._optimisers:
            optimiser.step(lead_rate, rate)
        return Step(float(loss), rgb.cpu().numpy())

    def _passes(self, rays: int, steps: int) -> Iterator[slice]:
        size = max(1, self._pass_samples // (steps + self._shown.profile.importance))
        return (slice(a, a + size) for a in range(0, rays, size))

    def place(self, array: np.ndarray) -> Array:
        # Geometry is computed in float64, which not every other device has.
        return torch.tensor(array, device=self._device) if self._device.type == "cuda" else array

    def _tensor(self, array: Array) -> torch.Tensor:
        if isinstance(array, torch.Tensor):
            return array.to(self._device, torch.float32)
        return torch.tensor(np.asarray(array, np.float32), device=self._device)

    def _rays(self, rays: Rays) -> _TorchRays:
        return _TorchRays(*(self._tensor(a) for a in (rays.origins, rays.directions, rays.view)))

    def _cells(self, network: Network) -> torch.Tensor | None:
        return self._weights[network.name].get(OCCUPANCY)

    def _motion(self, network: Network) -> torch.Tensor:
        return self._weights[network.name].get(MOTION, torch.zeros((0, 12), device=self._device))

    def _trace(
        self,
        rays: _TorchRays,
        jitter: torch.Tensor,
        background: torch.Tensor,
        steps: int,
        training: bool = False,
    ) -> list[_Seen]:
        """Render rays with each network, the shown one last.

        Args:
            jitter: `[R]`.
            background: `[R, 3]`.
        """
        samples = composite.uniform(steps, jitter)
        seen: list[_Seen] = []
        guide, count = self.networks.guide, self._shown.profile.importance
        light: Composite | None = None
        if guide is not None and guide is not self._shown:
            seen.append(self._look(guide, rays, samples, background, training))
            light = seen[0].light
        elif guide is not None and count:
            with torch.no_grad():
                light = self._look(guide, rays, samples, background, training=False).light
        if light is not None and count:
            more = composite.importance(light.weights.detach(), count, jitter)
            samples = composite.merge(samples, more)
        seen.append(self._look(self._shown, rays, samples, background, training))
        return seen

    def _look(
        self, network: Network, rays: _TorchRays, samples: Samples, background: torch.Tensor, training: bool
    ) -> _Seen:
        """Evaluate one network at samples in occupied cells, and composite."""
        profile, weights = network.profile, self._weights[network.name]
        contracted = network.space.contracted
        n, steps = samples.s.shape
        points = positions(rays.origins, rays.directions, samples.s, contracted).reshape(-1, 3)
        taken, at, cell = ((points >= 0) & (points < 1)).all(1), points, None
        cells = self._cells(network)
        if cells is not None:
            taken, at, cell = composite.place(points, cells, self._motion(network))
        index = taken.nonzero()[:, 0]
        ray = index // steps
        if training and self._mixed:
            with torch.autocast(self._device.type, torch.bfloat16):
                raw, features = profile.density(weights, at[index], rays.view[ray])
            raw, features = raw.float(), features.float()
        else:
            raw, features = profile.density(weights, at[index], rays.view[ray])
        if training and profile.recipe.noise:
            raw = raw + profile.recipe.noise * torch.randn(raw.shape, generator=self._noise, device=self._device)
        density = raw.new_zeros(n * steps).index_copy(0, index, profile.activate(raw)).reshape(n, steps)
        length = composite.lengths(rays.origins, rays.directions, samples, contracted)
        light = composite.composite(density, length, samples.s)
        share = light.weights.reshape(-1)[index]
        if training and cell is not None and network is self._shown:
            self._cell_weights.reshape(-1).scatter_reduce_(0, cell[index], share.detach(), "amax")
        sums = features.new_zeros(n, features.shape[1]).index_add(0, ray, share[:, None] * features)
        premultiplied = profile.shade(weights, sums, light.opacity, rays.view)
        return _Seen(premultiplied + (1 - light.opacity)[:, None] * background, light)


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices; emulation is slower than float32."""
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@contextmanager
def _coarser_products(device: torch.device) -> Iterator[None]:
    """Let a GPU multiply with 11 bits (TF32), which is several times faster and precise enough for training."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _Trained:
    """A tensor under training.

    Args:
        lead: whether it is trained at the lead rate.
        steps: lattice steps per unit of absolute difference from the reference; 0 if that has no price.
        delta: whether the reference is the current value, or 0.
    """

    def __init__(self, value: torch.Tensor, lead: bool, steps: float, delta: bool) -> None:
        self.value = value
        self.lead = lead
        self.steps = steps
        self.reference = value.detach().clone() if delta else torch.zeros_like(value)
        self.first = torch.zeros_like(self.reference)
        self.second = torch.zeros_like(self.reference)


class _Optimiser:
    """Adam over one network's tensors, each step followed by the proximal step of an L1 price on the change.

    The threshold is scaled like the step, so a change that does not earn its price goes to zero.
    """

    def __init__(self, tensors: list[_Trained], recipe: Recipe) -> None:
        self._tensors = tensors
        self._recipe = recipe
        self._steps = 0
        self._price = 0.0

    def set_price(self, price: float) -> None:
        self._price = price

    @torch.no_grad()
    def step(self, lead_rate: float, rate: float) -> None:
        """Apply and clear the accumulated gradients."""
        self._steps += 1
        b1, b2 = self._recipe.betas
        correct1, correct2 = 1 - b1**self._steps, 1 - b2**self._steps
        gradients = [t.value.grad for t in self._tensors if t.value.grad is not None]
        if not gradients:
            return
        norm = torch.stack([g.norm() for g in gradients]).norm()
        scale = (self._recipe.clip / (norm + 1e-6)).clamp(max=1)
        for t in self._tensors:
            if t.value.grad is None:
                continue
            g = t.value.grad * scale
            t.value.grad = None
            first = b1 * t.first + (1 - b1) * g
            second = b2 * t.second + (1 - b2) * g * g
            size = (lead_rate if t.lead else rate) / ((second / correct2).sqrt() + self._recipe.epsilon)
            value = t.value - size * first / correct1
            if price := self._price * t.steps:
                change = value - t.reference
                value = t.reference + change.sign() * (change.abs() - size * price).clamp(min=0)
            if self._recipe.sparse:
                met = g != 0
                first, second = torch.where(met, first, t.first), torch.where(met, second, t.second)
                value = torch.where(met, value, t.value)
            t.first, t.second = first, second
            t.value.copy_(value)
