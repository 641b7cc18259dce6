"""A plan in sentences: why each value, what else fits, what a data set does to it, and ways out when nothing fits."""

from collections.abc import Iterator, Mapping

from wan_studio.domain.machine import GIB, Machine
from wan_studio.domain.plan_space import (
    FEW_CLIPS,
    LARGER_RESOLUTIONS,
    blocks_of,
    large_clips,
    nested,
    usual_frames,
)
from wan_studio.domain.recommend import (
    ENOUGH_FRAMES,
    SLOW_STEP_SECONDS,
    WANTED_FRAMES,
    Judgement,
    Planner,
    Recommendation,
)
from wan_studio.domain.vram_plan import Part, Phase

GUIDE_OFFLOADING_GIB = 16
"""Below that much memory the guides switch layer offloading on and train fewer frames."""


def reasons(planner: Planner, plan: Recommendation) -> dict[str, str]:
    """Why each value of a plan, a sentence or two with the numbers, by "section.field"."""
    if not plan.changes or planner.machine.gpu is None:
        return {}
    return dict(_reasons(planner, plan))


def _reasons(planner: Planner, plan: Recommendation) -> Iterator[tuple[str, str]]:
    yield "model.low_vram", _low_vram(planner, plan)
    yield "model.layer_offloading", _layer_offloading(planner, plan)
    yield "model.checkpoint_offloading", _checkpoints(planner, plan)
    yield "quantization.transformer", _transformer(planner, plan)
    yield "quantization.text_encoder", _text_encoder(plan)
    yield "quantization.vae", _vae(planner, plan)
    yield "sample.in_tiles", _tiles(planner, plan)
    yield "datasets.resolutions", _resolutions(plan)
    yield "datasets.num_frames", _frames(planner, plan)
    yield "multistage.switch_every", _switch(planner, plan)
    yield "training.batch_size", _batch(planner, plan)
    yield "training.kept_activations", _kept(planner, plan)
    yield "target.rank", _rank(planner, plan)


def _with(planner: Planner, plan: Recommendation, **changes: object) -> Judgement:
    """The plan with other values; double underscores stand for the dot."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return planner.judge(plan.settings.with_values(nested(named)), plan.flavour)


def _low_vram(planner: Planner, plan: Recommendation) -> str:
    one = plan.judgement.memory.training.of(Part.BLOCKS) / GIB
    free = _free(planner.machine)
    blocks = blocks_of(plan.settings)
    if plan.settings.model.low_vram and plan.settings.model.resident_of(blocks) < blocks:
        whole = _with(planner, plan, model__layer_offloading=0.0, model__low_vram=False)
        needed = whole.memory.training.of(Part.BLOCKS)
        return (
            f"On: the blocks of both experts take {_gib(needed)}, and {_gib(free)} are free in all. The experts share "
            "what stays on the GPU, and the idle one costs no VRAM."
        )
    if plan.settings.model.low_vram:
        both = _with(planner, plan, model__low_vram=False).memory
        return (
            f"On: the blocks of both experts and the rest of a step would take {_gib(both.training.total)}, "
            f"and {_gib(free)} are free. The idle expert waits in RAM and costs no VRAM."
        )
    return f"Off: the blocks of both experts take {one:.1f} GiB and stay; {_gib(free)} are free."


def _layer_offloading(planner: Planner, plan: Recommendation) -> str:
    blocks = blocks_of(plan.settings)
    resident = plan.settings.model.resident_of(blocks)
    if resident == blocks:
        return f"Off: all {blocks} blocks of the expert at work fit; the peak is {_gib(plan.judgement.memory.training.total)}."
    whole = _with(planner, plan, model__layer_offloading=0.0)
    slower = plan.judgement.time.step_seconds / max(whole.time.step_seconds, 1e-9) - 1.0
    cost = (
        f"They are sent ahead of use, which makes a step {slower:.0%} longer."
        if slower > 0.02
        else "They are sent ahead of use, which by the forecast costs no time; guides reckon with twice the step."
    )
    return (
        f"On: with all {blocks} blocks a step would take {_gib(whole.memory.training.total)}. "
        f"{blocks - resident} of them wait in RAM. {cost}"
    )


def _checkpoints(planner: Planner, plan: Recommendation) -> str:
    if not plan.settings.model.checkpoint_offloading:
        kept = plan.judgement.memory.training.of(Part.KEPT)
        return f"Off: what blocks keep for their gradient, {_gib(kept)}, fits on the GPU."
    without = _with(planner, plan, model__checkpoint_offloading=False)
    saved = without.memory.training.total - plan.judgement.memory.training.total
    ram = plan.judgement.memory.ram.of(Part.KEPT)
    return f"On: it saves {_gib(saved)} of VRAM for {_gib(ram)} of RAM."


def _transformer(planner: Planner, plan: Recommendation) -> str:
    gpu = planner.machine.gpu
    assert gpu is not None
    mode = plan.settings.quantization.transformer
    masters = plan.judgement.memory.ram.of(Part.MASTERS)
    in_ram = f" In RAM both experts take {_gib(masters)}." if masters else ""
    if mode == "none":
        return f"bf16: there is room for it, and this card does not multiply in 8 bits.{in_ram}"
    if mode == "float8_compute":
        plain = _with(planner, plan, quantization__transformer="none").time.step_seconds
        faster = plain / max(plan.judgement.time.step_seconds, 1e-9)
        return (
            f"8 bits, computed in 8 bits: half the memory of bf16, and steps are {faster:.1f} times as fast; "
            f"the LoRA stays exact.{in_ram}"
        )
    if mode == "float8":
        why = (
            ""
            if gpu.capability is None
            else f" A card of compute capability {_dotted(gpu.capability)} cannot"
        )
        asked = why + " multiply in 8 bits, so products are computed in 16." if why else ""
        return f"8 bits: half the memory of bf16, and more exact than 4.{asked}{in_ram}"
    eight = "float8_compute" if gpu.has_float8 else "float8"
    other = _with(planner, plan, quantization__transformer=eight)
    lacking = " and ".join(
        words
        for words in (
            f"{_gib(other.missing.vram)} of VRAM" if other.missing.vram else "",
            f"{_gib(other.missing.ram)} of RAM" if other.missing.ram else "",
        )
        if words
    )
    missing = f"8 bits would want {lacking} more" if lacking else "8 bits would take longer here"
    if mode == "nf4":
        return f"4 bits: {missing}, and RAM does not suffice to compute the recovery.{in_ram}"
    return f"4 bits with accuracy recovery: {missing}; recovery takes back over half of the error of 4 bits.{in_ram}"


def _text_encoder(plan: Recommendation) -> str:
    mode = plan.settings.quantization.text_encoder
    if mode == "cpu":
        return "On the CPU: it fits the GPU in neither 16 nor 8 bits. Each caption is encoded once, before training."
    took = max(one.total for one in plan.judgement.memory.of(Phase.TEXT))
    bits = "16 bits" if mode == "none" else "8 bits"
    return f"In {bits} on the GPU: {_gib(took)} while captions are encoded, once, and nothing afterwards."


def _vae(planner: Planner, plan: Recommendation) -> str:
    took = _gib(max(one.total for one in plan.judgement.memory.of(Phase.LATENTS)))
    if plan.settings.quantization.vae == "none":
        return f"In float32, the most exact: {took} while clips are encoded, once."
    whole = _with(planner, plan, quantization__vae="none").memory
    needed = _gib(max(one.total for one in whole.of(Phase.LATENTS)))
    return f"In bf16: {took} while clips are encoded; float32 would take {needed}."


def _tiles(planner: Planner, plan: Recommendation) -> str:
    previews = plan.judgement.memory.of(Phase.PREVIEW)
    if not previews:
        return "Previews are off."
    took = _gib(max(one.total for one in previews))
    if not plan.settings.sample.in_tiles:
        return f"Off: a preview fits whole; it takes {took}."
    whole = _with(planner, plan, sample__in_tiles=False).memory
    needed = _gib(max(one.total for one in whole.of(Phase.PREVIEW)))
    return f"On: decoded whole, a preview would take {needed}; in tiles it takes {took}."


def _resolutions(plan: Recommendation) -> str:
    chosen = plan.settings.datasets.resolutions
    hours = plan.judgement.time.hours
    told = f"{_listed(chosen)}: a step takes {_seconds(plan.judgement.time.step_seconds)} on average."
    larger = [(wish, judged) for wish, judged in plan.also if wish.resolutions[-1] > chosen[-1]]
    if larger:
        wish, judged = larger[0]
        told += (
            f" {wish.resolutions[-1]} fits too ({_gib(judged.memory.peak.total)}, with what blocks keep in RAM); "
            f"the run would take {judged.time.hours:.0f} instead of {hours:.0f} hours."
            if judged.settings.model.checkpoint_offloading
            else f" {wish.resolutions[-1]} fits too ({_gib(judged.memory.peak.total)}); the run would take "
            f"{judged.time.hours:.0f} instead of {hours:.0f} hours."
        )
    return told


def _frames(planner: Planner, plan: Recommendation) -> str:
    frames, wanted = plan.settings.datasets.num_frames, WANTED_FRAMES[planner.goal]
    seconds = f"{frames} at 16 a second are {frames / 16:.2f} s of motion"
    usual = usual_frames(plan.settings, planner.clips, wanted)
    if frames == usual < wanted:
        return f"{seconds}: most clips are no longer than that."
    if frames < wanted:
        more = _with(planner, plan, datasets__num_frames=min(wanted, usual))
        if more.fits and more.time.step_seconds > SLOW_STEP_SECONDS:
            return (
                f"{seconds}, which is enough: {min(wanted, usual)} fit as well, at {_seconds(more.time.step_seconds)} a "
                f"step and {more.time.hours:.0f} hours."
            )
        return f"{seconds}: more do not fit."
    gpu = planner.machine.gpu
    small = gpu is not None and gpu.total_bytes < GUIDE_OFFLOADING_GIB * GIB
    better = (
        f" Guides advise {ENOUGH_FRAMES} or fewer on such a card; here blocks and activations wait in RAM, by the forecast at no cost."
        if small
        else ""
    )
    return f"{seconds}, what the goal wants.{better}{_more_frames(plan)}"


def _more_frames(plan: Recommendation) -> str:
    longer = [(wish, judged) for wish, judged in plan.also if wish.frames > plan.settings.datasets.num_frames]
    if not longer:
        return ""
    wish, judged = longer[-1]
    return f" {wish.frames} fit too, in {judged.time.hours:.0f} hours."


def _switch(planner: Planner, plan: Recommendation) -> str:
    every = plan.settings.multistage.switch_every
    often = _with(planner, plan, multistage__switch_every=1)
    extra = often.time.step_seconds / max(plan.judgement.time.step_seconds, 1e-9) - 1.0
    cost = f"would make steps {extra:.0%} longer" if extra >= 0.005 else "would cost no time here"
    return f"Experts take turns of {every} steps; a switch at every step {cost}."


def _batch(planner: Planner, plan: Recommendation) -> str:
    fitting = [
        size
        for size in (2, 4)
        if _with(planner, plan, training__batch_size=size, model__checkpoint_offloading=True).fits
    ]
    if not fitting:
        return "1, as the guides have it."
    most = fitting[-1]
    where = "" if plan.settings.model.checkpoint_offloading else ", with what blocks keep in RAM"
    return f"1, as the guides have it. {most} fit too{where}; a step then takes about {most} times as long."


def _kept(planner: Planner, plan: Recommendation) -> str:
    training = plan.settings.training
    if training.kept_blocks:
        return f"{training.kept_blocks} blocks keep everything: there is VRAM to spare, and nothing of them is computed twice."
    if training.kept_activations == "sums":
        return "Attention and sums are kept: there is VRAM to spare, and less is computed twice."
    if training.kept_activations == "nothing":
        more = _with(planner, plan, training__kept_activations="attention")
        return f"Nothing but each block's input is kept: attention's output would take {_gib(_difference(more, plan))} more."
    return "Attention's output is kept, its dearest part; the rest of a block is computed twice."


def _difference(other: Judgement, plan: Recommendation) -> int:
    own = plan.judgement.memory
    return max(other.memory.training.total - own.training.total, other.memory.ram.total - own.ram.total)


def _rank(planner: Planner, plan: Recommendation) -> str:
    rank = plan.settings.target.rank
    double = _with(planner, plan, target__rank=2 * rank)
    more = max(0, double.memory.peak.total - plan.judgement.memory.peak.total)
    return f"{rank}; {2 * rank} would take {_gib(more)} more."


# ---- The data set, and ways out --------------------------------------------------------------


def notes(planner: Planner, judged: Judgement) -> tuple[str, ...]:
    """What the clips do to a plan, a sentence each."""
    return tuple(_notes(planner, judged))


def _notes(planner: Planner, judged: Judgement) -> Iterator[str]:
    data = judged.settings.datasets
    clips = planner.clips
    if not clips:
        return
    usual = usual_frames(judged.settings, clips, data.num_frames)
    short = sum(1 < clip.longest < data.num_frames for clip in clips)
    if short and usual < data.num_frames:
        yield f"{short} of {len(clips)} clips are too short for {data.num_frames} frames at 16 a second; most hold {usual}."
    for side in LARGER_RESOLUTIONS:
        large = large_clips(clips, side)
        if side in data.resolutions and not data.allow_upscale and large <= FEW_CLIPS:
            told = "No clip is" if not large else f"Only {large} of {len(clips)} clips are"
            yield f"{told} large enough for {side}: leave that resolution out."
    largest = judged.workload.buckets[0]
    rest = [use for use in judged.workload.buckets[1:] if use.shape.tokens < largest.shape.tokens]
    if largest.clips <= FEW_CLIPS and rest:
        spike = judged.memory.training.total - _training_at(judged, rest[0].shape)
        if spike > GIB // 4:
            clips_told = "one clip alone has" if largest.clips == 1 else f"only {largest.clips} clips have"
            yield (
                f"The largest bucket, {largest.shape}, is a memory spike: {clips_told} it, "
                f"and it takes {_gib(spike)} more than all others."
            )


def _training_at(judged: Judgement, shape: object) -> int:
    return next(one.total for one in judged.memory.of(Phase.TRAINING) if one.shape == shape)


def ways_out(planner: Planner, plan: Recommendation) -> tuple[str, ...]:
    """When nothing fits: what is missing, and what helps, the cheapest first."""
    if plan.fits:
        return ()
    if planner.machine.gpu is None:
        return (plan.judgement.missing.why_not or "There is no NVIDIA GPU.",)
    return tuple(_ways_out(planner, plan))


def _ways_out(planner: Planner, plan: Recommendation) -> Iterator[str]:
    missing, machine = plan.least, planner.machine
    gpu = machine.gpu
    assert gpu is not None
    if missing.why_not:
        yield missing.why_not
    told: Mapping[str, int] = {"VRAM": missing.vram, "RAM": missing.ram, "disk space": missing.disk}
    for name, size in told.items():
        if size:
            yield f"Even the smallest plan wants {_gib(size)} ({size:,} bytes) of {name} more."
    others = gpu.total_bytes - gpu.free_bytes
    if missing.vram and others > GIB:
        yield f"Close other programs that use the GPU: they hold {_gib(others)}."
    in_use = machine.ram_total_bytes - machine.ram_available_bytes
    if missing.ram and in_use > missing.ram:
        yield f"Close other programs: they hold {_gib(in_use)} of RAM."
    alone = plan.settings.with_values({"multistage": {"stages": "high"}, "sample": {"every": 0}})
    if Planner(machine, planner.goal, planner.clips, planner.measured).recommend(alone, plan.flavour).fits:
        yield "Train one expert at a time, without previews, in two runs: half of the RAM suffices."
    if missing.ram:
        yield f"More RAM: {_gib(machine.ram_total_bytes + missing.ram)} in all would do."
    if missing.disk:
        yield "Make room on the disk, or put the project on another one."
    if missing.vram:
        yield "Train on a larger GPU: the job can be prepared here and run there."


def _free(machine: Machine) -> int:
    return 0 if machine.gpu is None else machine.gpu.free_bytes


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 20 else f"{seconds:.0f} s"


def _listed(sides: tuple[int, ...]) -> str:
    return (
        " and ".join(map(str, sides))
        if len(sides) < 3
        else f"{', '.join(map(str, sides[:-1]))} and {sides[-1]}"
    )


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
