"""Speaks the trainer's side of the contract without training: for tests of who starts and follows it.

Called as the trainer's interpreter would be (``-P -m trainer VERB ...``). What it does beyond
ending well is asked for in the environment variable STAND_IN: "crash", "fail", "mute" (dies
before its first word) or "slow" (20 steps a second, until it is stopped) or "deaf" (the same, but it obeys nothing).
"""

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.protocol.commands import Stop, command_name
from trainer.protocol.events import (
    CheckpointSaved,
    CommandObeyed,
    Hello,
    Phase,
    PhaseFinished,
    PhaseProgress,
    PhaseStarted,
    PreviewSaved,
    RunFailed,
    RunFinished,
    StepDone,
)
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import EventWriter, RunFolder

TOTAL_STEPS = 20


def main(arguments: list[str]) -> int:
    verb, *rest = arguments[arguments.index("trainer") + 1 :]
    if verb == "export":
        return export(RunFolder(Path(rest[0])), rest)
    if verb == "preview":
        return preview(RunFolder(Path(rest[0])), dict(word.split("=") for word in rest[1:]))
    run = RunFolder(Path(rest[0] if verb == "resume" else rest[-1]))
    mode = os.environ.get("STAND_IN", "")
    print(f"stand-in: {verb}, cwd {Path.cwd()}")
    if mode == "mute":
        print("ImportError: no such module", file=sys.stderr)
        return 3
    with run.hold_lock():
        return train(run, mode, first_step=10 if verb == "resume" else 0)


def train(run: RunFolder, mode: str, first_step: int) -> int:
    events = EventWriter(run.events_file)
    total = 1200 if mode in {"slow", "deaf"} else TOTAL_STEPS
    events.write(
        Hello(
            protocol_version=1,
            trainer_version="stand-in",
            pid=os.getpid(),
            device="cpu",
            first_step=first_step,
            total_steps=total,
        )
    )
    events.write(PhaseStarted(phase=Phase.TRAINING, total=total, unit="steps"))
    for step in range(first_step + 1, total + 1):
        expert = Expert.HIGH if step % 2 else Expert.LOW
        events.write(
            StepDone(
                step=step,
                expert=expert,
                loss=1 / step,
                timesteps=(950.0,),
                learning_rate=1e-3,
                grad_norm=1.0,
                seconds=0.01,
                seconds_left=(total - step) * 0.01,
            )
        )
        for command_id, command in run.waiting_commands() if mode != "deaf" else ():
            run.remove_command(command_id)
            if isinstance(command, Stop):
                events.write(CommandObeyed(command_id=command_id, command=command_name(command)))
                checkpoint(run, events, step)
                events.write(RunFinished(reason="stopped", step=step))
                return 0
        if mode == "crash" and step == 15:
            print("Killed by the stand-in", flush=True)
            os._exit(9)
        if mode == "fail" and step == 15:
            events.write(RunFailed(kind="unreadable_clip", message="clip.mp4 is gone.", hint="Put it back."))
            return 1
        time.sleep(0.05 if mode in {"slow", "deaf"} else 0.02)
    events.write(PreviewSaved(step=total, row=0, video="previews/step_000020/00.mp4", poster="p.jpg"))
    checkpoint(run, events, total)
    events.write(PhaseFinished(phase=Phase.TRAINING, seconds=1.0))
    events.write(RunFinished(reason="completed", step=total))
    return 0


def checkpoint(run: RunFolder, events: EventWriter, step: int) -> None:
    run.checkpoint(step).mkdir(parents=True, exist_ok=True)
    events.write(CheckpointSaved(step=step, path=f"checkpoints/{run.checkpoint(step).name}"))


def export(run: RunFolder, rest: list[str]) -> int:
    if not run.checkpoint_steps():
        print(f"There is no checkpoint in {run.path}.", file=sys.stderr)
        return 1
    folder = Path(rest[rest.index("--out") + 1]) if "--out" in rest else run.exports_folder
    name = rest[rest.index("--name") + 1] if "--name" in rest else "lora"
    folder.mkdir(parents=True, exist_ok=True)
    for expert in Expert:
        path = folder / f"{name}_{expert.value}.safetensors"
        path.write_text(" ".join(rest[1:]))
        print(path)
    return 0


def preview(run: RunFolder, options: dict[str, str]) -> int:
    if os.environ.get("STAND_IN") == "fail":
        print("error: The checkpoint is damaged.", file=sys.stderr)
        return 1
    checkpoint = int(options["--checkpoint"])
    high, low = int(options.get("--high", checkpoint)), int(options.get("--low", checkpoint))
    strength = float(options.get("--strength", 1.0))
    with run.hold_lock():
        events = EventWriter(run.events_file)
        events.write(PhaseStarted(phase=Phase.PREVIEWING, total=4, unit="denoising steps"))
        for done in range(4):
            events.write(PhaseProgress(phase=Phase.PREVIEWING, done=done, total=4))
            time.sleep(0.3)
        if high == low and strength == 1.0:
            events.write(PreviewSaved(step=high, row=0, video="previews/plain.mp4", poster="p.jpg"))
        else:
            name = f"high_{high:06d}_low_{low:06d}" + (f"_strength_{strength:.2f}" if strength != 1 else "")
            folder = run.previews_folder / name
            folder.mkdir(parents=True)
            entry = {"row": 0, "video": "00.mp4", "poster": "00.jpg", "prompt": "an orbit"}
            (folder / "previews.json").write_text(json.dumps({"previews": [entry]}))
        events.write(PhaseFinished(phase=Phase.PREVIEWING, seconds=1.0))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
