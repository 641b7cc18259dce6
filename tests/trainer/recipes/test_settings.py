"""Each setting of the job changes what its name says, by as much as its formula says, and nothing else."""

import msgspec
import pytest
import torch

from tests.jobs import preview_row, small_job
from trainer.errors import TrainerError
from trainer.model.lora import lora_disabled, lora_strength
from trainer.output.checkpoint import load_checkpoint
from trainer.protocol.events import PreviewSaved, StepDone, ValidationDone, Warned
from trainer.protocol.job import Expert, JobSpec
from trainer.protocol.run_folder import EventReader, RunFolder
from trainer.recipes import draws, prompts
from trainer.recipes import parts as assembly
from trainer.recipes import train_lora as recipe
from trainer.runtime.control import Control
from trainer.runtime.device import choose_device
from trainer.runtime.reporter import Reporter


@pytest.fixture
def job_of(tmp_path_factory, miniature_folder):
    data = tmp_path_factory.getbasetemp() / "settings-data"

    def make(**sections) -> JobSpec:
        sections["training"] = {"steps": 30} | sections.get("training", {})
        return small_job(data, miniature_folder, **sections)

    return make


def with_dataset(job: JobSpec, **fields) -> JobSpec:
    return msgspec.structs.replace(job, datasets=(msgspec.structs.replace(job.datasets[0], **fields),))


@pytest.fixture
def gradients(tmp_path):
    """The losses and the LoRA gradients of one step, at weights that are not at rest."""

    def of(job: JobSpec, expert: Expert = Expert.LOW, step: int = 10):
        folder = RunFolder(tmp_path / f"run{len(list(tmp_path.iterdir()))}")
        folder.path.mkdir()
        with Reporter(folder) as reporter:
            control = Control(folder, reporter)
            context = recipe.open_context(folder, job, choose_device(None), reporter, control)
            parts = recipe.prepare(context, recipe.turns_of(job))
            parameters = parts.learners[expert].parameters
            for number, parameter in enumerate(parameters):
                generator = torch.Generator().manual_seed(number)
                torch.nn.init.normal_(parameter, std=0.1, generator=generator)
            losses = recipe.accumulate_gradient(parts, expert, step)
            losses = recipe.read_numbers(losses, torch.zeros(()))
            return losses, torch.cat([parameter.grad.flatten() for parameter in parameters]), parts

    return of


def run_events(folder: RunFolder, job: JobSpec) -> list:
    folder.path.mkdir(parents=True, exist_ok=True)
    with Reporter(folder) as reporter:
        recipe.train_lora(folder, job, reporter, Control(folder, reporter))
    return EventReader(folder.events_file).read_new()


def of_type(events: list, kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


def test_a_data_sets_loss_weight_scales_the_gradient_and_leaves_the_reported_loss(job_of, gradients):
    plain, expected, _ = gradients(job_of())
    weighted, got, _ = gradients(with_dataset(job_of(), loss_weight=0.25))
    assert weighted.plain == plain.plain
    torch.testing.assert_close(got, 0.25 * expected)


def test_a_data_sets_lora_strength_is_the_strength_while_it_trains(job_of, gradients):
    losses, _, parts = gradients(with_dataset(job_of(), lora_strength=0.5))
    full, _, _ = gradients(job_of())
    assert losses.plain != full.plain
    # Half the strength in the forward pass is half the B matrices at full strength.
    with torch.no_grad():
        for parameter in parts.learners[Expert.LOW].parameters[1::2]:
            parameter.mul_(0.5)
    with lora_strength(parts.experts.transformer(Expert.LOW), 2.0):
        halved = recipe.backward_micro_batch(parts, Expert.LOW, recipe.Place(10, 0), share=0.0)
    assert halved.plain_B[0].tolist() == pytest.approx(losses.plain, rel=1e-5)


def test_differential_guidance_scales_the_gradient_and_leaves_the_reported_loss(job_of, gradients):
    plain, expected, _ = gradients(job_of())
    guided, got, _ = gradients(
        job_of(advanced={"differential_guidance": True, "differential_guidance_scale": 3.0})
    )
    assert guided.plain == plain.plain
    torch.testing.assert_close(got, 3.0 * expected)


@pytest.mark.parametrize("kind", ["mae", "huber"])
def test_the_loss_type_changes_loss_and_gradient(job_of, gradients, kind):
    plain, expected, _ = gradients(job_of())
    other, got, _ = gradients(job_of(training={"loss": kind}))
    assert other.timesteps == plain.timesteps
    assert other.plain != plain.plain
    assert torch.nn.functional.cosine_similarity(got, expected, dim=0) < 0.9999


@pytest.mark.parametrize(
    "preservation",
    [
        {"diff_output_preservation": True, "diff_output_preservation_class": "sphere"},
        {"diff_output_preservation": True, "preservation_prompt": "a person"},
        {"blank_prompt_preservation": True},
        {"diff_output_preservation": True, "blank_prompt_preservation": True},
    ],
)
def test_preservation_run_apart_equals_the_joint_gradient(job_of, gradients, preservation):
    job = job_of(training=preservation | {"preservation_multiplier": 0.7}, job={"trigger": "orbit"})
    losses, got, parts = gradients(job)
    _, main, _ = gradients(job_of(job={"trigger": "orbit"}))
    assert losses.preservation > 0

    # The joint loss by hand: same noise and timestep, the LoRA off for the target, one backward for all.
    (item,) = parts.batches.batch_at(Expert.LOW.value, parts.turns.steps_taken(Expert.LOW, 10))
    batch = draws.load_batch([item], parts.context.cache)
    generator = draws.generator_for(job.training.seed, "step", 10, 0)
    timesteps = draws.sample_timesteps(1, parts.learners[Expert.LOW].interval, generator)
    noise = torch.randn(batch.clean_BCTHW.shape, generator=generator)
    noisy = draws.add_noise(batch.clean_BCTHW, noise, timesteps)
    transformer = parts.experts.transformer(Expert.LOW)
    parameters = parts.learners[Expert.LOW].parameters

    def predict(prompt: str) -> torch.Tensor:
        text = draws.pad_rows(parts.context.text_rows(prompt))[None]
        return parts.experts.predict(Expert.LOW, noisy, batch.condition_BCTHW, timesteps, text)

    caption = job.clips[item.clip_index].caption
    loss = (predict(caption) - (noise - batch.clean_BCTHW)).square().mean()
    kept = prompts.preservation_prompts(job, job.datasets[0], caption)
    assert kept
    for prompt in kept:
        with torch.no_grad(), lora_disabled(transformer):
            before = predict(prompt)
        loss = loss + 0.7 * (predict(prompt) - before).square().mean()
    joint = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
    torch.testing.assert_close(got, joint, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(got, main, rtol=1e-3)


def test_output_preservation_that_can_do_nothing_is_said_and_left_out(job_of, gradients, tmp_path):
    nothing_to_do = {"training": {"diff_output_preservation": True}, "job": {"trigger": "zebra"}}
    losses, got, _ = gradients(job_of(**nothing_to_do))
    _, plain, _ = gradients(job_of())
    assert losses.preservation is None
    assert torch.equal(got, plain)
    nothing_to_do["training"]["steps"] = 1
    warnings = of_type(run_events(RunFolder(tmp_path / "warned"), job_of(**nothing_to_do)), Warned)
    assert "trigger" in warnings[0].message


def test_a_dropped_caption_trains_the_empty_prompt_or_the_trigger_alone(job_of, gradients):
    for to, prompt in (("empty", ""), ("trigger", "zebra")):
        job = job_of(job={"trigger": "zebra"})
        _, got, _ = gradients(with_dataset(job, caption_dropout=1.0, caption_dropout_to=to))
        clips = tuple(msgspec.structs.replace(clip, caption=prompt) for clip in job.clips)
        _, expected, _ = gradients(with_dataset(job, clips=clips))
        assert torch.equal(got, expected)


def test_the_dropout_share_is_kept(job_of):
    job = with_dataset(job_of(), caption_dropout=0.3)
    entries = assembly.entries_of(job, "training", "vae")
    item = entries[0].windows[0]
    dropped = sum(prompts.training_prompt(job, item, (step, 0, 0)) == "" for step in range(2000))
    assert dropped / 2000 == pytest.approx(0.3, abs=0.03)


def test_condition_noise_changes_only_the_first_latent_frame(job_of, gradients):
    _, _, parts = gradients(job_of())
    (item,) = parts.batches.batch_at("low_noise", 0)
    batch = draws.load_batch([item], parts.context.cache)
    noisy = draws.augmented_condition(batch, [0.2], torch.Generator().manual_seed(0))
    change = noisy - batch.condition_BCTHW
    assert torch.count_nonzero(change[:, :, 1:]) == 0
    assert float(change[:, :, 0].std()) == pytest.approx(0.2, rel=0.2)


@pytest.mark.parametrize("altered", [{"condition_blur": 2.0}, {"condition_quality": 5}])
def test_a_degraded_first_frame_changes_the_condition_and_not_what_is_learnt(job_of, gradients, altered):
    job = with_dataset(job_of(), condition_share=1.0, **altered)
    _, got, parts = gradients(job)
    _, plain, _ = gradients(job_of())
    assert not torch.allclose(got, plain, rtol=1e-3)
    (item,) = parts.batches.batch_at("low_noise", 0)
    as_it_is = draws.load_batch([item], parts.context.cache)
    degraded = draws.load_batch([item], parts.context.cache, [True])
    assert torch.equal(as_it_is.clean_BCTHW, degraded.clean_BCTHW)
    assert not torch.equal(as_it_is.condition_BCTHW, degraded.condition_BCTHW)


def test_the_condition_is_altered_in_its_share_of_the_draws_alone(job_of, gradients):
    _, plain, _ = gradients(job_of())
    _, never, _ = gradients(with_dataset(job_of(), condition_share=0.0, condition_noise=0.5))
    _, always, _ = gradients(with_dataset(job_of(), condition_share=1.0, condition_noise=0.5))
    assert torch.equal(never, plain)
    assert not torch.allclose(always, plain, rtol=1e-3)


def test_a_preview_without_a_first_frame_is_named_before_the_first_step(job_of, tmp_path):
    for row, named in (
        (preview_row(image="/nowhere.png"), "nowhere.png"),
        (preview_row(clip=9), "no clip 9"),
    ):
        job = job_of(training={"steps": 1}, sample={"every": 1, "rows": (row,)})
        with pytest.raises(TrainerError, match=named):
            run_events(RunFolder(tmp_path / named), job)


def test_each_expert_can_have_a_rank_a_rate_and_timesteps_of_its_own(job_of, gradients):
    job = job_of(
        multistage={
            "high_rank": 4,
            "low_learning_rate": 5e-5,
            "high_timestep_type": "sigmoid",
            "low_timestep_bias": "low_noise",
            "high_timestep_shift": 3.0,
        }
    )
    _, _, parts = gradients(job)
    high, low = (parts.learners[expert] for expert in Expert)
    assert high.parameters[0].shape[0] == 4
    assert low.parameters[0].shape[0] == 2
    assert (high.learning_rate, low.learning_rate) == (1e-3, 5e-5)
    assert (high.timesteps.type, high.timesteps.shift) == ("sigmoid", 3.0)
    assert (low.timesteps.type, low.timesteps.bias) == ("linear", "low_noise")


def test_the_boundary_and_its_overlap_move_the_intervals(job_of, gradients):
    _, _, parts = gradients(job_of(multistage={"boundary": 0.875, "boundary_overlap": 0.025}))
    high, low = (parts.learners[expert].interval for expert in Expert)
    assert (high.lower, high.upper) == (0.85, 1.0)
    assert (low.lower, low.upper) == (0.0, 0.9)


def test_schedule_and_warm_up_follow_each_experts_own_steps(job_of, tmp_path):
    job = job_of(
        training={"steps": 8, "lr_schedule": "linear", "warmup_steps": 2}, multistage={"switch_every": 1}
    )
    steps = of_type(run_events(RunFolder(tmp_path / "run"), job), StepDone)
    rates = {
        expert: [step.learning_rate / 1e-3 for step in steps if step.expert is expert] for expert in Expert
    }
    assert rates[Expert.HIGH] == rates[Expert.LOW]
    assert rates[Expert.HIGH] == pytest.approx([0.5, 1.0, 1.0, 0.5])


def test_stratified_timesteps_visit_every_part_of_the_interval(job_of, tmp_path):
    job = job_of(training={"steps": 16, "stratified_timesteps": True}, multistage={"stages": "low"})
    steps = of_type(run_events(RunFolder(tmp_path / "run"), job), StepDone)
    parts = sorted(int(-(-step.timesteps[0] * 16 // 900)) for step in steps)
    assert parts == list(range(1, 17))


def test_validation_measures_the_same_noise_each_time_and_needs_held_out_clips(job_of, tmp_path):
    job = job_of(training={"steps": 4}, advanced={"validation_every": 2})
    assert not of_type(run_events(RunFolder(tmp_path / "none"), job), ValidationDone)

    held_out = msgspec.structs.replace(job.datasets[0], role="validation", clips=job.clips[1:])
    training = msgspec.structs.replace(job.datasets[0], clips=job.clips[:1])
    job = msgspec.structs.replace(job, datasets=(training, held_out))
    first = of_type(run_events(RunFolder(tmp_path / "first"), job), ValidationDone)
    again = of_type(run_events(RunFolder(tmp_path / "again"), job), ValidationDone)
    assert [(event.step, event.expert) for event in first] == [
        (step, expert) for step in (0, 2, 4) for expert in Expert
    ]
    assert [event.loss for event in first] == [event.loss for event in again]
    assert len(first[0].timesteps) == len(first[0].timestep_losses) == 4
    assert all(900 < t < 1000 for t in first[0].timesteps)


def test_a_moving_average_is_what_is_saved(job_of, tmp_path):
    run = RunFolder(tmp_path / "run")
    job = job_of(
        training={"steps": 3, "ema_decay": 0.5}, multistage={"stages": "low"}, save={"every": 1, "keep": 10}
    )
    run_events(run, job)
    raw = [load_checkpoint(run.checkpoint(step)) for step in (1, 2, 3)]
    name = next(name for name in raw[0].loras[Expert.LOW] if ".lora_B." in name)
    weights = [state.loras[Expert.LOW][name] for state in raw]
    averages = [state.averages[Expert.LOW][name] for state in raw]
    torch.testing.assert_close(averages[1], 0.5 * averages[0] + 0.5 * weights[1])
    torch.testing.assert_close(averages[2], 0.5 * averages[1] + 0.5 * weights[2])
    saved = recipe.read_lora_file(run.checkpoint(3) / "low_noise.safetensors").state[name]
    torch.testing.assert_close(saved, averages[2])


def test_previews_are_rendered_before_the_first_step_to_compare_with(job_of, tmp_path):
    sample = {"every": 2, "at_start": True, "steps": 2, "guidance_high": 1.0, "guidance_low": 1.0}
    sample["rows"] = (preview_row(),)
    events = run_events(RunFolder(tmp_path / "run"), job_of(training={"steps": 2}, sample=sample))
    assert [event.step for event in of_type(events, PreviewSaved)] == [0, 2]
    later = run_events(
        RunFolder(tmp_path / "later"), job_of(training={"steps": 2}, sample=sample | {"at_start": False})
    )
    assert [event.step for event in of_type(later, PreviewSaved)] == [2]


def test_a_run_can_start_from_the_lora_of_another(job_of, tmp_path):
    first = RunFolder(tmp_path / "first")
    job = job_of(training={"steps": 4}, multistage={"stages": "low"})
    run_events(first, job)
    path = first.checkpoint(4) / "low_noise.safetensors"
    second = RunFolder(tmp_path / "second")
    continued = job_of(
        training={"steps": 1, "learning_rate": 1e-9},
        multistage={"stages": "low"},
        target={"start_low": str(path)},
    )
    run_events(second, continued)
    started = recipe.read_lora_file(second.checkpoint(1) / "low_noise.safetensors").state
    for name, tensor in recipe.read_lora_file(path).state.items():
        torch.testing.assert_close(started[name], tensor, rtol=0, atol=1e-6)
