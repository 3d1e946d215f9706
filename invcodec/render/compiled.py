"""The CPU engine of the `grid` profile: compiled kernels on Python threads.

Results do not depend on the number of threads: rays are split into fixed chunks, each with its own gradients, and
tables are updated level by level.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np

from invcodec.field.grid_layout import LEVEL_FEATURES, MAX_RAW_DENSITY, MOTION_TERMS, level_name
from invcodec.field.kernels.grid import BLOCK, OUTPUTS, STRIP, Layers, Levels, adam, field, update_levels
from invcodec.field.kernels.simd import LANES
from invcodec.field.profile import MOTION, OCCUPANCY, TensorKey
from invcodec.geometry.space import Rays
from invcodec.render.engine import Batch, Pixels, Step, device_type, owners
from invcodec.render.grid_engine import GridEngine
from invcodec.render.kernels import Cells, Scratch, render_chunks, train_chunks
from invcodec.render.networks import Networks

CHUNK_RAYS = 128
_SCRATCH_BYTES = 1 << 26
"""Of each thread that renders: far more than the presets' networks take, and less than the largest would."""
_DENSITY_POINTS = 1 << 14

f32 = np.float32


class CompiledEngine(GridEngine):
    """Renders and trains one `grid` network on the CPU."""

    def __init__(self, networks: Networks, *, device: str = "cpu", threads: int) -> None:
        super().__init__(networks)
        assert device_type(device) == "cpu"
        self._pool = ThreadPoolExecutor(threads)
        self._threads = threads
        layout = self._layout
        self._levels = Levels(
            np.zeros((layout.entries, LEVEL_FEATURES), f32),
            np.array([0, *(level.last for level in layout.levels)], np.int64),
            np.array(layout.resolutions, np.int64),
            np.array([level.hashed for level in layout.levels]),
            np.uint32(layout.table_mask),
        )
        self._flat, self._layers = self._new_layers()
        self._motion = np.zeros((layout.parts, MOTION_TERMS), f32)
        self.set_occupancy(np.ones((layout.occupancy,) * 3, bool))
        self._moments: list[np.ndarray] = []
        self._scratch: SimpleQueue[tuple[np.ndarray, Scratch]] = SimpleQueue()
        self._scratch_capacity = 0
        self._chunks = np.empty((0, 3, 0), f32), np.empty((0, 0, 0, BLOCK), f32)
        # For two chunks at least: gradients of one have another memory layout, which would need kernels of its own.
        self._gradients = self._new_layers(2)
        self._cell_weights = np.zeros((threads, *(layout.occupancy,) * 3), f32)

    def _new_layers(self, *leading: int) -> tuple[np.ndarray, Layers]:
        """A zeroed flat array `[*leading, n]`, and the dense layers as views `[*leading, ...]` of it."""
        flat = np.zeros((*leading, self._layout.layer_size(OUTPUTS)), f32)
        return flat, Layers(*self._layout.layer_views(flat, OUTPUTS).values())

    def _tensors(self) -> dict[str, np.ndarray]:
        """Every tensor that is trained by name, as a view of what the kernels use."""
        layers = self._layout.layer_views(self._flat, OUTPUTS).items()
        return self._layout.table_views(self._levels.table) | {
            name: padded[: self._layout.shapes[name][0]] for name, padded in layers
        }

    def load(self, weights: Mapping[TensorKey, np.ndarray]) -> None:
        views = self._tensors()
        for (_, name), value in weights.items():
            if name == OCCUPANCY:
                self.set_occupancy(value)
            elif name == MOTION:
                # In place: the cells hold a view of it.
                self._motion[...] = value
            else:
                views[name][...] = value.reshape(views[name].shape)

    def weights(self) -> dict[TensorKey, np.ndarray]:
        views = self._tensors()
        views |= {OCCUPANCY: self._occupancy.astype(f32), MOTION: self._motion}
        return {(self._name, name): views[name].reshape(shape).copy() for name, shape in self._layout.shapes.items()}

    def occupancy(self) -> np.ndarray:
        return self._occupancy.copy()

    def set_occupancy(self, cells: np.ndarray) -> None:
        self._occupancy = owners(cells, len(self._motion))
        # Parts without cells cost no time.
        used = max(int(self._occupancy.max()) - 1, 0)
        bits = np.packbits(np.stack([self._occupancy == 1 + part for part in range(1 + used)]), bitorder="little")
        words = np.pad(bits, (0, -len(bits) % 4)).view("<u4").astype(np.uint32)
        self._cells = Cells(self._layout.occupancy, words, self._motion[:used])

    def take_cell_weights(self) -> np.ndarray:
        seen = self._cell_weights.max(0)
        self._cell_weights[...] = 0
        return seen

    def _on_all_threads(self, work: Callable[[np.ndarray], None]) -> None:
        """Call `work` on every thread, with a shared counter from which it takes its share of the work."""
        queue = np.zeros(1, np.int64)
        for done in [self._pool.submit(work, queue) for _ in range(self._threads)]:
            done.result()

    def _outputs(self) -> int:
        """Values of the density network for a sample, padded to whole vectors."""
        return -(-(1 + self._layout.features) // LANES) * LANES

    def _sample_bytes(self) -> int:
        """Scratch of one sample; see `_with_scratch`."""
        return 4 * (10 + self._layout.encoded + self._layout.hidden + 2 * self._outputs())

    def _with_scratch(self, capacity: int) -> None:
        """Ensure scratch for chunks of up to `capacity` samples, one set per thread."""
        capacity = -(-capacity // BLOCK) * BLOCK
        if capacity <= self._scratch_capacity:
            return
        self._scratch_capacity = capacity
        self._scratch = SimpleQueue()
        layout, blocks, outputs = self._layout, capacity // BLOCK, self._outputs()
        for _ in range(self._threads):
            scratch = Scratch(
                delta=np.empty(capacity, f32),
                s=np.empty(capacity, f32),
                ray=np.empty(capacity, np.int32),
                light=np.empty((2, capacity), f32),
                weight=np.empty(capacity, f32),
                after=np.empty(capacity, f32),
                x=np.empty((blocks, layout.encoded, BLOCK), f32),
                hidden=np.empty((blocks, layout.hidden, BLOCK), f32),
                out=np.zeros((blocks, outputs, BLOCK), f32),
                sample=np.empty((capacity, outputs), f32),
                gradient_hidden=np.empty((layout.hidden, BLOCK), f32),
            )
            self._scratch.put((np.empty((3, capacity), f32), scratch))

    def render(self, rays: Rays, background: np.ndarray) -> Pixels:
        n = len(rays)
        steps = self._samples
        most = min(CHUNK_RAYS, max(1, _SCRATCH_BYTES // (steps * self._sample_bytes())))
        self._with_scratch(most * steps)
        # Kernels need finite rays, and a hostile file's spaces and cameras may give others.
        origins, directions = (np.nan_to_num(a, posinf=0, neginf=0) for a in (rays.origins, rays.directions))
        pixels = Pixels(np.empty((n, 3), f32), np.empty(n, f32), np.empty(n, f32))
        back = np.asarray(background, f32)

        def work(queue: np.ndarray) -> None:
            held = self._scratch.get()
            render_chunks(
                queue, most, self._levels, self._layers, origins, directions, rays.view,
                self._contracted, steps, self._cells, back, *held, *pixels,
            )  # fmt: skip
            self._scratch.put(held)

        self._on_all_threads(work)
        return pixels

    def begin(
        self, trainable: Collection[TensorKey], price: float, *, delta: bool = False, mixed: bool = False
    ) -> None:
        # The kernels always compute in float32.
        names = {name for _, name in trainable}
        self._moments = [np.zeros_like(self._levels.table) for _ in range(2)]
        self._table_gradient = np.zeros_like(self._levels.table)
        self._reference = self._levels.table.copy() if delta else np.zeros_like(self._levels.table)
        self._layer_gradient = np.zeros_like(self._flat)
        # Value, gradient, moments and reference of each layer's tensor, and the lattice steps that have the price.
        arrays = self._flat, self._layer_gradient, np.zeros_like(self._flat), np.zeros_like(self._flat)
        views = [self._layout.layer_views(array, OUTPUTS) for array in (*arrays, self._flat.copy())]
        self._trained_layers = [
            ([view[name].reshape(-1) for view in views], self._steps_per_unit[name] if delta else 0.0)
            for name in views[0]
            if name in names
        ]
        self._trains_tables = any(level.name in names for level in self._layout.levels)
        self.set_price(price)
        self._steps = 0

    def set_price(self, price: float) -> None:
        self._price = price

    def warm_up(self) -> None:
        held = self.weights()
        one = np.full((1, 3), 0.5, f32)
        rays = Rays(one, one, one, one[0, :1], one[0, :1])
        self.begin([(self._name, name) for name in self._tensors()], 0.0)
        self.step(Batch(rays, one, one, one[0, :1], one[0, :1]), 0.0, 0.0)
        self.density(one)
        self.take_cell_weights()
        self.load(held)

    def step(self, batch: Batch, lead_rate: float, rate: float, *, samples: int | None = None) -> Step:
        rays = batch.rays
        n = len(rays)
        steps = samples or self._samples
        chunks = -(-n // CHUNK_RAYS)
        self._with_scratch(CHUNK_RAYS * steps)
        position, gradient = self._room_for(chunks, CHUNK_RAYS * steps)
        rgb = np.empty((n, 3), f32)
        if len(self._gradients[0]) < chunks:
            self._gradients = self._new_layers(chunks)
        flat, gradients = self._gradients
        train_layers = bool(self._trained_layers)
        if train_layers:
            flat[:] = 0
        counts, losses = np.zeros(chunks, np.int64), np.zeros(chunks)
        cell_weights: SimpleQueue[np.ndarray] = SimpleQueue()
        for each in self._cell_weights:
            cell_weights.put(each)

        def train(queue: np.ndarray) -> None:
            held = self._scratch.get()
            train_chunks(
                queue, CHUNK_RAYS, self._levels, self._layers, rays.origins, rays.directions, rays.view,
                self._contracted, steps, batch.jitter, self._cells, batch.target, batch.background, batch.weight,
                train_layers, position, held[1], gradient, gradients, cell_weights.get(), rgb, counts, losses,
            )  # fmt: skip
            self._scratch.put(held)

        def update(queue: np.ndarray) -> None:
            update_levels(
                queue, self._levels, position, gradient, counts, self._table_gradient, *self._moments,
                self._reference, f32(lead_rate), step, table_price,
            )  # fmt: skip

        self._on_all_threads(train)
        self._steps += 1
        step = f32(self._steps)
        table_price = f32(self._price * self._steps_per_unit[level_name(0)])
        if self._trains_tables:
            self._on_all_threads(update)
        if train_layers:
            np.sum(flat[:chunks], 0, out=self._layer_gradient)
            for arrays, steps_per_unit in self._trained_layers:
                adam(*arrays, f32(rate), step, f32(self._price * steps_per_unit))
        return Step(float(losses.sum()), rgb)

    def _room_for(self, chunks: int, capacity: int) -> tuple[np.ndarray, np.ndarray]:
        """Buffers for the sample positions and encoding gradients of a number of chunks."""
        position, gradient = self._chunks
        blocks = -(-capacity // BLOCK)
        if chunks > len(position) or blocks > gradient.shape[1]:
            chunks, blocks = max(chunks, len(position)), max(blocks, gradient.shape[1])
            position = np.empty((chunks, 3, blocks * BLOCK), f32)
            gradient = np.empty((chunks, blocks, self._layout.encoded, BLOCK), f32)
            self._chunks = position, gradient
        return position, gradient

    def density(self, points: np.ndarray) -> np.ndarray:
        out = np.empty(len(points), f32)
        self._with_scratch(_DENSITY_POINTS)

        def work(a: int) -> None:
            part = points[a : a + _DENSITY_POINTS]
            n = len(part)
            held = self._scratch.get()
            position, scratch = held
            padded = n + -n % STRIP
            position[:, :n] = part.T
            position[:, n:padded] = 0
            field(self._levels, self._layers, position, 0, padded, scratch.x, scratch.hidden, scratch.out)
            out[a : a + n] = scratch.out[:, 0].reshape(-1)[:n]
            self._scratch.put(held)

        list(self._pool.map(work, range(0, len(points), _DENSITY_POINTS)))
        return np.exp(np.minimum(out, MAX_RAW_DENSITY))
