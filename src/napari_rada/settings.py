"""The groups of settings that a configuration is made of: frozen, validated, described."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, field_validator, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterator

ViewPairs: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
ClipModel: TypeAlias = Literal["ViT-B-16-quickgelu", "ViT-L-14-quickgelu", "ViT-L-14-336-quickgelu"]
Architecture: TypeAlias = Literal["vnet", "completer"]
Augment: TypeAlias = Literal["none", "flips", "deform"]
Compilation: TypeAlias = Literal["none", "default", "reduce-overhead", "max-autotune"]
CtWindow: TypeAlias = Literal["soft tissue", "liver", "lung", "mediastinum", "bone", "brain"]

MOST_VOXELS = 360_000
"""Grid on which is propagated: what the presets ask for, at most 300,000, and what alignment can add to that."""


class Group(BaseModel):
    """Settings that belong together; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, found: Any) -> Any:
        """Refuse true and false where a number stands, for which they would be taken as 1 and 0."""
        for name, value in found.items() if isinstance(found, dict) else ():
            truths = [one for one in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(one, bool)]
            if truths and name in cls.model_fields:
                kinds = set(_kinds(cls.model_fields[name].annotation))
                if bool not in kinds and kinds & {int, float}:
                    kind = "whole number" if int in kinds else "number"
                    raise ValueError(f"{name} must be a {kind}, found {str(truths[0]).lower()}")
        return found


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types that a setting can have, and those of its parts."""
    yield annotation
    for inner in get_args(annotation):
        yield from _kinds(inner)


def _check_view_pairs(name: str, pairs: ViewPairs) -> None:
    for pair in pairs:
        if len(set(pair)) != 2 or not set(pair) <= {0, 1, 2}:
            raise ValueError(f"{name} must each name two different views of 0, 1, 2, found {pair}")


class DataConfig(Group):
    """How volumes are brought to the working grid."""

    max_voxels: int | None = Field(
        600_000, ge=4096, description="Coarsen by halving until the volume has at most this many voxels."
    )
    usual_slices: int | None = Field(
        None,
        ge=1,
        description="With more slices that show something than this, the grid of a scan may have as many times more "
        "voxels than max_voxels (propagation_voxels), up to twice. None: the same for any number of slices.",
    )
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(
        None,
        description="Working voxels of about so many mm along (z, y, x), whatever max_voxels says; None: by max_voxels,"
        " which for several cases is planned once, so that all share one grid.",
    )
    orientation: str | None = Field(
        None,
        description="Where the axes x, y, z of the scans that networks see lead, such as RAS; scans that lie otherwise "
        "are turned, and the results back. None: as most annotated cases lie.",
    )
    crop_margin: float | None = Field(
        None,
        ge=0,
        description="Crop labelled cases to the annotated foreground plus this share on every side. None, and of cases "
        "without labels: leave out border planes that hold nothing but the darkest value.",
    )
    propagation_voxels: int | None = Field(
        None,
        ge=4096,
        description="Propagate labelled cases on a grid of their own, cropped to the annotated structure and of at most"
        " this many voxels; None: on the working grid.",
    )
    aligned: bool = Field(
        False,
        description="Propagate and predict on two positions of the grid, in which the annotated slices lie just before "
        "and just after the middle of its voxels, and take the mean of both; networks learn on the first. For grids "
        "that the way to propagate does not coarsen further (max_voxels there).",
    )
    close_ups: bool = Field(
        False,
        description="Propagate structures that are small beside the others once more, each on a finer grid in the box "
        "around it, for the result on the scan's own voxels.",
    )
    percentiles: tuple[float, float] = Field((1.0, 99.0), description="Intensity percentiles mapped to 0 and 1.")
    window: tuple[float, float] | None = Field(None, description="Intensity window (CT: HU) instead of percentiles.")
    non_finite: Literal["refuse", "replace"] = Field("refuse", description="What to do with NaN and infinity.")

    def voxels_with(self, slices: int) -> int | None:
        """Return how many voxels the grid of a scan may have, `slices` of which show something; None: the full grid."""
        if self.max_voxels is None or self.usual_slices is None:
            return self.max_voxels
        return self.max_voxels * min(max(slices, self.usual_slices), 2 * self.usual_slices) // self.usual_slices

    @property
    def working_aligned(self) -> bool:
        """True if it is the working grid on which annotated slices are aligned, and not a grid of the case's own."""
        return self.aligned and self.propagation_voxels is None

    @model_validator(mode="after")
    def _ordered(self) -> DataConfig:
        for name, pair in (("percentiles", self.percentiles), ("window", self.window)):
            if pair is not None and not pair[0] < pair[1]:
                raise ValueError(f"{name} must be (lower, upper) with lower < upper, found {pair}")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError(f"percentiles must lie in 0..100, found {self.percentiles}")
        return self

    @field_validator("orientation")
    @classmethod
    def _leads_somewhere(cls, value: str | None) -> str | None:
        ends = "" if value is None else "".join(sorted(value, key="LRPAIS".find))
        if value is not None and ends not in {"".join(three) for three in product("LR", "PA", "IS")}:
            raise ValueError(f"it must have one letter each of LR, PA and IS, found {value!r}")
        return value


class DiffusionConfig(Group):
    """Random walker seeded by the annotated slices (Grady 2006), averaged over edge scales."""

    method: Literal["diffusion"] = "diffusion"
    scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.8, 0.2),
        min_length=1,
        description="Intensity steps that count as edges, in units of the image's mean step; results are averaged.",
    )
    absorption: float = Field(
        2e-4, ge=0, lt=1, description="Chance per step that a walk is lost and counts as background."
    )
    max_voxels: int = Field(MOST_VOXELS, ge=4096, description="Solve on a grid of at most this many voxels.")
    tolerance: float = Field(3e-4, gt=0, lt=1, description="Relative residual at which the solver stops.")


class RegistrationConfig(Group):
    """Slice-by-slice deformable registration, per view (paper, section on pseudo-labels). Needs antspyx."""

    method: Literal["registration"] = "registration"
    transform: Literal["SyN", "SyNOnly", "ElasticSyN"] = Field("SyN", description="ANTs transform type.")
    alpha: float = Field(0.97, gt=0, le=1, description="Weight per slice of distance when views are fused.")


class FlowConfig(Group):
    """Slice-by-slice optical flow (Lucas-Kanade), per view, fused as registration is but between parallel slices."""

    method: Literal["flow"] = "flow"
    window: float = Field(
        1.2, ge=0.5, le=5, description="Standard deviation in pixels of the Gaussian window that moves as one."
    )
    warps: int = Field(2, ge=1, le=10, description="Refinements per level of resolution.")
    alpha: float = Field(0.97, gt=0, le=1, description="Weight per slice of distance when views are fused.")
    max_voxels: int = Field(
        MOST_VOXELS,
        ge=4096,
        description="Carry on a grid of at most this many voxels.",
    )


class FinerFlowConfig(FlowConfig):
    """Optical flow as one of several opinions, on a grid of its own."""

    max_voxels: int = Field(
        600_000,
        ge=4096,
        description="Carry on a grid of at most this many voxels, which can be finer than that of the other opinions.",
    )


class CombinedConfig(Group):
    """Diffusion, a network that was pre-trained on synthetic scans and corrects it, and optical flow, pooled.

    Their weights are found on every scan anew, from what each says about annotated slices that it was not shown; where
    no such slice tells, all three weigh the same.
    """

    method: Literal["combined"] = "combined"
    share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Usual weight of the network; that of diffusion is the rest, that of optical flow is 0.",
    )
    caution: float | None = Field(
        0.01,
        ge=0,
        description="How hard it is for the weights to leave the usual ones, and to make a class larger or smaller; "
        "None keeps the usual weights.",
    )
    diffusion: DiffusionConfig = DiffusionConfig()
    flow: FinerFlowConfig = FinerFlowConfig()


PropagationConfig: TypeAlias = Annotated[
    CombinedConfig | DiffusionConfig | FlowConfig | RegistrationConfig, Field(discriminator="method")
]


class ModelConfig(Group):
    """The three networks."""

    architecture: Architecture = Field(
        "vnet",
        description="V-Nets of the lineage that start from nothing; or completers (see propagation by combined) that "
        "start from the weights in the package, for which filters, blocks, norm and dropout do nothing.",
    )
    filters: int = Field(16, ge=2, le=128, description="Filters of the first level; doubled at each level down.")
    blocks: tuple[int, ...] = Field(
        (1, 2, 3, 3, 3), min_length=2, max_length=6, description="Convolutions per level; one level more per entry."
    )
    networks: int = Field(
        3, ge=1, le=3, description="How many of the three networks take part; those of the first view pairs."
    )
    norm: Literal["batch", "instance"] = Field("batch", description="Normalisation layer.")
    dropout: float = Field(0.5, ge=0, lt=1, description="At the bottleneck and before the head.")
    completion: bool = Field(
        False,
        description="Give each network the propagated probability and the distance to the annotated slices, and let "
        "it correct the propagation instead of starting from nothing.",
    )
    prior_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of patches without the propagation, so that unseen scans can be predicted."
    )

    @model_validator(mode="after")
    def _completes(self) -> ModelConfig:
        if self.architecture == "completer" and (not self.completion or self.prior_dropout):
            raise ValueError("architecture completer needs completion: true and prior_dropout: 0")
        return self

    @property
    def completes_only(self) -> bool:
        """True if the networks can only complete annotated slices."""
        return self.completion and self.prior_dropout == 0


class StepDecay(Group):
    """Learning rate divided by `factor` every `every` iterations, never under `minimum`."""

    kind: Literal["step"] = "step"
    factor: float = Field(10.0, gt=1)
    every: int = Field(2500, ge=1)
    minimum: float = Field(1e-4, gt=0)


class CosineDecay(Group):
    """Linear warm-up over the first `warmup` share of the run, then a cosine to `final` times the learning rate."""

    kind: Literal["cosine"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    final: float = Field(0.01, ge=0, le=1)


class SGDConfig(Group):
    """Stochastic gradient descent with momentum (paper)."""

    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)


class AdamWConfig(Group):
    """Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"


class CrossConfig(Group):
    """Cross supervision: every network is taught by the other two on unlabelled patches."""

    beta_max: float = Field(0.1, ge=0, lt=0.5, description="Largest weight of one teacher; 0 switches it off.")
    schedule: Literal["rampup", "linear", "constant"] = Field(
        "rampup", description="How the weight of a teacher grows to its largest: exp(-5 (1 - t)²), t, or at once."
    )
    noisy_passes: int = Field(8, ge=0, le=32, description="Noisy passes for the uncertainty; 0 uses the clean one.")
    noise: float = Field(0.1, ge=0, description="Standard deviation of the input noise, clamped to twice that.")
    on_labelled: bool = Field(
        False,
        description="Also where nobody annotated in the labelled patches, which then need no unlabelled ones beside "
        "them.",
    )


class TrainingConfig(Group):
    """Optimisation, batches, schedules."""

    iterations: int = Field(6000, ge=1, le=1_000_000)
    minutes: float | None = Field(
        None, gt=0, description="Time budget: the first iterations are timed and the number of iterations set to fit."
    )
    labelled_patches: int = Field(2, ge=1, le=64, description="Labelled patches per batch.")
    unlabelled_patches: int = Field(
        2, ge=0, le=64, description="Unlabelled patches per batch; 0 leaves scans without labels out."
    )
    self_training: bool = Field(
        False,
        description="Networks learn from the annotated scans alone first and label the others; then new ones learn "
        "from all, in as many iterations. Without it networks teach each other on scans without labels from the start.",
    )
    patch: tuple[int, int, int] = Field((80, 112, 112), description="Patch size in voxels along (z, y, x).")
    patch_voxels: int | None = Field(
        None,
        ge=512,
        description="Plan the patch: as much of the scans as fits into so many voxels; None: patch as given.",
    )
    learning_rate: float = Field(0.01, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    optimiser: Annotated[SGDConfig | AdamWConfig, Field(discriminator="kind")] = SGDConfig()
    decay: Annotated[StepDecay | CosineDecay, Field(discriminator="kind")] = StepDecay()
    cross: CrossConfig = CrossConfig()
    alpha: float = Field(0.97, gt=0, le=1, description="Trust in a pseudo-label per slice of distance, at the start.")
    alpha_every: int = Field(1000, ge=1, description="Iterations between two cosine steps of alpha towards 0.")
    view_pairs: ViewPairs = Field(
        ((2, 1), (0, 2), (1, 0)),
        description="Which two views are the truth of each network; view = array axis (0 z, 1 y, 2 x). Where "
        "propagation tells views apart, the first is the one whose dense labels it learns.",
    )
    pseudo_weight: float = Field(1.0, ge=0, description="Weight of a fully trusted pseudo-label beside a true label.")
    centred: float = Field(0.0, ge=0, le=1, description="Share of labelled patches around annotated foreground.")
    augment: Augment = Field(
        "flips", description="Flips and quarter turns; or small rotations, scalings and changes of intensity (deform)."
    )
    bfloat16: bool = Field(
        False,
        description="Mixed precision also on a processor that has bfloat16; cards that have it use it anyway.",
    )
    compile: Compilation = Field(
        "none",
        description="torch.compile for the networks, by its modes; takes minutes at the start, for long runs on CUDA "
        "graphics cards; reduce-overhead records CUDA graphs.",
    )
    cuda_graph: bool = Field(
        True, description="On a CUDA graphics card, record an iteration and repeat it as a whole; not where compiled."
    )
    log_every: int = Field(1, ge=1)
    validate_every: int = Field(200, ge=1)
    checkpoint_seconds: float = Field(60.0, ge=0, description="Save the last state at least this often.")

    @model_validator(mode="after")
    def _views_exist(self) -> TrainingConfig:
        _check_view_pairs("view_pairs", self.view_pairs)
        if min(self.patch) < 8:
            raise ValueError(f"patch must be at least 8 voxels along every axis, found {self.patch}")
        return self


class GuidanceConfig(Group):
    """Region and text guidance by a frozen Alpha-CLIP (paper; METHOD section 4)."""

    source: Literal["none", "text", "region", "region+text"] = Field(
        "region+text", description="What guides the networks: nothing, text prompts (SGTC), regions, or both (RADA)."
    )
    mode: Literal["auto", "required"] = Field(
        "auto", description="Without weights: train without guidance and say so (auto), or refuse (required)."
    )
    model: ClipModel = Field("ViT-B-16-quickgelu", description="CLIP model, by open_clip's name.")
    clip_weights: Path | None = Field(None, description="File of OpenAI's CLIP; None looks in the weights' cache.")
    alpha_weights: Path | None = Field(None, description="File of Alpha-CLIP; None looks in the weights' cache.")
    cache: Path | None = Field(
        None, description="Cache folder that holds weights/; None takes NAPARI_RADA_CACHE, else that of the platform."
    )
    plane_pairs: ViewPairs | None = Field(
        None, description="Which two views' slices each network is shown; None: those that are its truth (view_pairs)."
    )
    window: CtWindow | tuple[float, float] | None = Field(
        None, description="Intensity window of the region prompts: a CT preset or (lower, upper); None: that of data."
    )
    templates: tuple[str, ...] = Field(
        ("An image containing the {name}, with the rest being background",),
        min_length=1,
        description="Text prompts of classes that have none of their own; {name} is the class's name.",
    )
    prompts: dict[int, str] = Field(default={}, description="Text prompt by label value; wins over the class table.")
    reduction: int = Field(4, ge=1, le=64, description="How much narrower the adapter's middle layer is.")
    width: int = Field(
        256, ge=8, le=2048, description="Length of the projected prompt and of the pooled image feature."
    )
    controller: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        (256, 128, 64, 8), min_length=1, description="Layers of the controller; the last is added to the features."
    )

    @field_validator("source", mode="before")
    @classmethod
    def _null_is_none(cls, value: object) -> object:
        """Take an empty value, as forms and YAML write it, for the source `none`."""
        return "none" if value is None else value

    @model_validator(mode="after")
    def _is_usable(self) -> GuidanceConfig:
        if self.plane_pairs is not None:
            _check_view_pairs("plane_pairs", self.plane_pairs)
        if isinstance(self.window, tuple) and not self.window[0] < self.window[1]:
            raise ValueError(f"window must be (lower, upper) with lower < upper, found {self.window}")
        for template in self.templates:
            if "{name}" not in template or "{" in template.replace("{name}", ""):
                raise ValueError(f"a template needs the place {{name}} and no other, found {template!r}")
        return self


class InferenceConfig(Group):
    """Sliding-window prediction."""

    overlap: float = Field(0.5, ge=0, lt=1, description="Share of a tile that overlaps the next.")
    tiles_per_batch: int = Field(1, ge=1)
    blend: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the networks in the final probability of a case with annotated slices; the rest is the "
        "propagation's. With corrections, the share of what the networks change that is done to the propagation.",
    )
    corrections: bool = Field(
        False,
        description="What networks that complete a propagation change in it, in log-odds, is done to the propagation "
        "on the scan's own grid, instead of mixing the two.",
    )
    keep_size: bool = Field(
        False,
        description="Every class keeps the size that the propagation gives it in the scan, whatever the networks say.",
    )
    edge_aware: bool = Field(
        False,
        description="In a scan with annotated slices the result follows the edges of the image on the scan's own grid "
        "(guided filter).",
    )
    largest_part: bool = Field(
        False, description="Keep only the largest connected part of every class; for structures that are one piece."
    )
    keep_annotated: bool = Field(True, description="Annotated slices keep what was painted.")
