"""What every pruned backbone promises; a family is a subclass that says how it is built and fed."""

from __future__ import annotations

import copy
import gc
import io
import math
import pickle
import random
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import pytest
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

import terratorch_simpler as simpler
from terratorch_simpler.backbones.backbone import Backbone, load_backbone
from terratorch_simpler.backbones.pruned import PrunedBackbone
from terratorch_simpler.precision import full_float32
from terratorch_simpler.pruning import prune_backbone

KEEP = 3
COUNTED = dict.fromkeys(
    ("outputs_up_to_the_cut", "list_that_is_no_prefix"),
    "with outputs 'kept', out_indices count the kept blocks: another subclass shows this",
)


class Skip(nn.Module):
    """Stands for a block that is left out."""

    def forward(self, tokens: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        """Hand the tokens on."""
        return tokens


def tensors(outputs: Any) -> list[Tensor]:
    """Every tensor of a list, tuple or dict of outputs, in order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    items = outputs.values() if isinstance(outputs, Mapping) else outputs
    return [tensor for item in items for tensor in tensors(item)]


def equal(left: Any, right: Any) -> bool:
    """Whether two outputs hold the same numbers."""
    a, b = tensors(left), tensors(right)
    return len(a) == len(b) and all(map(torch.equal, a, b))


class BackboneTester:
    """The promises. A subclass names the backbone and may say what it does differently.

    Attributes:
        name: Name in TerraTorch's registry.
        arguments: What it is built with.
        shape: Image without the batch; by modality where it takes several.
        family: Name of the family that must know it.
        depth: Blocks of the full backbone.
        outputs: How many entries the full backbone returns.
        chosen: Which entries of the full depth they are; all of them by default.
        normed: How many of the last outputs have a final norm on them.
        spared: Reasons for promises that the full backbone cannot keep either, by name.
        uninitialised: Weights that TerraTorch leaves as the memory was.
        whole: Whether a variant is held to all promises, since it has weights or inputs of its own.
        once: Whether it takes seconds to build, so that most promises share one by copies.
    """

    name: ClassVar[str]
    arguments: ClassVar[dict[str, Any]] = {}
    shape: ClassVar[Any]
    family: ClassVar[str]
    depth: ClassVar[int] = 12
    outputs: ClassVar[int] = 12
    chosen: ClassVar[list[int] | None] = None
    normed: ClassVar[int] = 0
    spared: ClassVar[dict[str, str]] = {}
    uninitialised: ClassVar[tuple[str, ...]] = ()
    whole: ClassVar[bool] = False
    once: ClassVar[bool] = False
    built: ClassVar[dict[str, Any]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.built = {}

    @pytest.fixture(autouse=True)
    def _loaded(self, build: Any) -> None:
        """The registry is full once TerraTorch is imported."""

    @pytest.fixture
    def _fresh_compiler(self) -> Iterator[None]:
        """What was compiled is forgotten, before and after: it holds on to the backbone."""
        torch.compiler.reset()
        yield
        torch.compiler.reset()

    def image(self, seed: int = 1, batch: int = 2) -> Any:
        """A seeded batch of tiles."""
        generator = torch.Generator().manual_seed(seed)
        if isinstance(self.shape, dict):
            return {
                key: torch.randn(batch, *shape, generator=generator)
                for key, shape in self.shape.items()
            }
        return torch.randn(batch, *self.shape, generator=generator)

    def inputs(self, batch: int = 2) -> dict[str, Tensor]:
        """Further arguments of ``forward``."""
        del batch
        return {}

    def full(self, seed: int = 0) -> Backbone:
        """The full backbone with seeded weights."""

        def build() -> Backbone:
            torch.manual_seed(seed)
            backbone = load_backbone(self.name, **self.arguments)
            backbone.module.eval()
            return backbone

        return self.share("full", build) if seed == 0 else build()

    def pruned(self, seed: int = 0, **arguments: Any) -> Any:
        """The pruned backbone by its name."""
        from terratorch.registry import BACKBONE_REGISTRY

        def build() -> Any:
            torch.manual_seed(seed)
            given = {"keep_blocks": KEEP} | self.arguments | arguments
            return BACKBONE_REGISTRY.build(f"simpler_{self.name}", **given).eval()

        return build() if seed or arguments else self.share("pruned", build)

    def share(self, what: str, build: Callable[[], Any]) -> Any:
        """What is built, or a copy of it where the class builds each thing once."""
        if not self.once:
            return build()
        if what not in self.built:
            self.built[what] = build()
        return copy.deepcopy(self.built[what])

    def run(self, module: Any, image: Any = None) -> Any:
        """Run without gradients, with the same random numbers each time."""
        random.seed(0)
        torch.manual_seed(0)
        image = self.image() if image is None else image
        with torch.no_grad():
            return module(dict(image) if isinstance(image, dict) else image, **self.inputs())

    def by_hand(self, kept: list[int]) -> list[Any]:
        """Outputs of the kept blocks, from the full backbone with the others left out."""
        full = self.full()
        blocks = full.block_list
        for block in range(len(blocks)):
            if block not in kept:
                blocks[block] = self.skip()
        every = prune_backbone(full, list(range(self.depth)), "kept")
        outputs = self.run(every)
        return [outputs[block] for block in kept]

    def skip(self) -> nn.Module:
        """What stands in the place of a block that is left out."""
        return Skip()

    def ends(self, block: Any) -> tuple[nn.Module, nn.Module]:
        """The modules that a block's tokens enter first and leave last."""
        return block, block

    def tokens(self, given: Tensor, output: Tensor) -> Tensor:
        """The tokens that leave a block, from what the last of those was given and gave."""
        del given
        return output

    def check_copy(self, copied: Any, pruned: Any) -> None:
        """A copy gives the same outputs, on weights of its own."""
        assert type(copied) is type(pruned)
        assert copied.kept_blocks == pruned.kept_blocks
        assert copied.full_depth == pruned.full_depth
        before = self.run(pruned)
        assert equal(self.run(copied), before)
        with torch.no_grad():
            for weight in copied.parameters():
                weight.zero_()
        assert equal(self.run(pruned), before)
        assert not equal(self.run(copied), before)

    def keeps(self, promise: str, try_it: Callable[[Any], None]) -> None:
        """Hold the pruned backbone to a promise, or show that the full one cannot keep it."""
        if promise in self.spared:
            with pytest.raises(Exception, match=r"."):
                try_it(self.full().module)
            pytest.skip(self.spared[promise])
        try_it(self.pruned())

    def test_family(self) -> None:
        full = self.full()
        assert (full.family.name, full.depth) == (self.family, self.depth)

    def test_all_blocks_change_nothing(self) -> None:
        full = self.full()
        whole = prune_backbone(full, list(range(self.depth)))
        assert equal(self.run(whole), self.run(full.module))

    def test_outputs_up_to_the_cut(self) -> None:
        if "outputs_up_to_the_cut" in self.spared:
            pytest.skip(self.spared["outputs_up_to_the_cut"])
        full = self.full()
        every = prune_backbone(full, list(range(self.depth)), "kept")
        kept = prune_backbone(full, list(range(KEEP)), "kept")
        outputs = self.run(kept)
        assert len(outputs) == KEEP
        raw = KEEP if self.normed == 0 else KEEP - 1
        assert equal(outputs[:raw], self.run(every)[:raw])

    def test_list_that_is_no_prefix(self) -> None:
        if "list_that_is_no_prefix" in self.spared:
            pytest.skip(self.spared["list_that_is_no_prefix"])
        kept = [0, 2, self.depth - 1]
        full = self.full()
        outputs = self.run(prune_backbone(full, kept, "kept"))
        expected = self.by_hand(kept)
        assert equal(outputs, expected)

    def test_channels_and_shapes(self) -> None:
        full, pruned = self.full(), self.pruned()
        whole, cut = self.run(full.module), self.run(pruned)
        assert type(cut) is type(whole)
        assert len(cut) == len(whole) == self.outputs
        assert [t.shape for t in tensors(cut)] == [t.shape for t in tensors(whole)]
        channels: Any = full.module.out_channels
        assert pruned.out_channels == list(channels)

    def test_entries_of_the_full_depth(self) -> None:
        kept, pruned = self.pruned(outputs="kept"), self.pruned()
        entries, real = self.run(pruned), self.run(kept)
        chosen = self.chosen if self.chosen is not None else range(self.depth)
        assert len(real) == len(kept.out_channels) == KEEP
        for entry, index in zip(entries, chosen, strict=True):
            assert equal(entry, real[math.ceil((index + 1) * KEEP / self.depth) - 1])

    def test_state_dict(self) -> None:
        full, pruned = self.full().module.state_dict(), self.pruned().state_dict()
        assert pruned.keys() < full.keys()
        for name, weight in pruned.items():
            assert name in self.uninitialised or torch.equal(weight, full[name])

    def test_parameters(self) -> None:
        full = self.full()
        removed, holder = full.block_list[KEEP:], full.module
        holder = holder.get_submodule(full.blocks.rpartition(".")[0])
        gone = sum(weight.numel() for block in removed for weight in block.parameters())
        prompts = sum(
            entry.numel()
            for name in full.family.per_block
            for entry in [*getattr(holder, name, ())][KEEP:]
            if isinstance(entry, nn.Parameter)
        )
        count = sum(weight.numel() for weight in self.pruned().parameters())
        assert count == full.parameters - gone - prompts

    def test_pickle(self) -> None:
        pruned = self.pruned()
        self.check_copy(pickle.loads(pickle.dumps(pruned)), pruned)
        stream = io.BytesIO()
        torch.save(pruned, stream)
        stream.seek(0)
        self.check_copy(torch.load(stream, weights_only=False), pruned)

    def test_deepcopy(self) -> None:
        pruned = self.pruned()
        # What TerraTorch binds to the backbone it builds must not be bound in the copy.
        self.check_copy(copy.deepcopy(pruned), pruned)

    @pytest.mark.usefixtures("_fresh_compiler")
    def test_compile(self) -> None:
        def try_it(module: Any) -> None:
            compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
            torch.testing.assert_close(tensors(self.run(compiled)), tensors(self.run(module)))

        self.keeps("compile", try_it)

    def test_export(self) -> None:
        # With bfloat16 products, as on CPUs with AMX, an exported graph rounds in other places.
        @full_float32()
        def try_it(module: Any) -> None:
            exported = torch.export.export(module, (self.image(),), self.inputs()).module()
            torch.testing.assert_close(tensors(self.run(exported)), tensors(self.run(module)))

        self.keeps("export", try_it)

    def test_bfloat16(self) -> None:
        def try_it(module: Any) -> None:
            image = apply_to_collection(self.image(), Tensor, lambda value: value.bfloat16())
            for output in tensors(self.run(module.to(torch.bfloat16), image)):
                assert output.dtype == torch.bfloat16
                assert torch.isfinite(output).all()

        self.keeps("bfloat16", try_it)

    def test_gradients(self) -> None:
        pruned = self.pruned()
        random.seed(0)
        loss = sum(t.float().square().sum() for t in tensors(pruned(self.image(), **self.inputs())))
        assert isinstance(loss, Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
        blocks: Any = pruned.get_submodule(load_backbone(self.name, **self.arguments).blocks)
        assert len(blocks) == KEEP
        for block in blocks:
            assert any(w.grad is not None and w.grad.any() for w in block.parameters())

    def test_memory(self) -> None:
        full = self.full()
        alive = [weakref.ref(block) for block in full.block_list]
        pruned = prune_backbone(full, list(range(KEEP)))
        full.release()
        del full
        gc.collect()
        assert isinstance(pruned, PrunedBackbone)
        assert [block() is not None for block in alive] == [i < KEEP for i in range(self.depth)]

    def test_freeze(self) -> None:
        from terratorch.models.pixel_wise_model import freeze_module

        if "freeze" in self.spared:
            pytest.skip(self.spared["freeze"])
        pruned = self.pruned()
        if hasattr(pruned, "freeze"):
            pruned.freeze()
        else:
            freeze_module(pruned)
        assert not any(weight.requires_grad for weight in pruned.parameters())
        assert tensors(self.run(pruned))

    def test_checkpoint(self) -> None:
        pruned, other = self.pruned(), self.pruned(seed=9)
        assert not equal(self.run(pruned), self.run(other))
        stream = io.BytesIO()
        torch.save(pruned.state_dict(), stream)
        stream.seek(0)
        other.load_state_dict(torch.load(stream, weights_only=True), strict=True)
        assert equal(self.run(pruned), self.run(other))

    def test_selection(self) -> None:
        full = self.full()
        batches = [self.batch(seed) for seed in range(4)]
        plan = simpler.select(
            full.module, batches, pooling="mean", accelerator="cpu", progress=False
        )
        assert plan.total_depth == self.depth
        assert (plan.backbone.family, plan.backbone.blocks) == (self.family, full.blocks)
        by_plan = simpler.prune(full.module, plan)
        assert by_plan.kept_blocks == plan.kept_blocks
        assert equal(self.run(by_plan), self.run(prune_backbone(full, plan.kept_blocks)))
        if not full.family.generates:
            torch.testing.assert_close(
                torch.from_numpy(plan.similarity).float(), self.similarity(full), atol=1e-4, rtol=0
            )

    def batch(self, seed: int) -> Any:
        """A batch as a datamodule gives it."""
        return {"image": self.image(seed), **self.inputs()}

    @full_float32()
    def similarity(self, full: Backbone) -> Tensor:
        """Every pair of layers, from hooks of its own and the public ``linear_cka``."""
        layers: list[list[Tensor]] = [[] for _ in range(self.depth + 1)]
        blocks = full.block_list

        def keep(layer: int, tokens: Tensor) -> None:
            layers[layer].append(self.patches(full, tokens.flatten(1, -2)).mean(1))

        ends = [self.ends(block) for block in blocks]
        handles = [ends[0][0].register_forward_pre_hook(lambda _m, given: keep(0, given[0]))]
        handles += [
            last.register_forward_hook(
                lambda _m, given, out, layer=i + 1: keep(layer, self.tokens(given[0], out))
            )
            for i, (_, last) in enumerate(ends)
        ]
        for seed in range(4):
            self.run(full.module, self.image(seed))
        for handle in handles:
            handle.remove()
        samples = [torch.cat(layer) for layer in layers]
        rows = [[float(simpler.linear_cka(a, b)) for b in samples] for a in samples]
        return torch.tensor(rows)

    def patches(self, full: Backbone, tokens: Tensor) -> Tensor:
        """Tokens without the special ones: by default those before the last that fill a grid."""
        del full
        side = math.isqrt(tokens.shape[1])
        return tokens[:, tokens.shape[1] - side * side :]
