"""A caption process that only speaks: the same sentence about each clip, without a model.

`STAND_IN_CAPTION_SECONDS` is how long it takes over one; a clip named "bad" cannot be read, and a model
named "foreign" ends it.
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.protocol.captioning import read_request
from trainer.protocol.commands import Stop
from trainer.protocol.events import (
    CaptionFailed,
    CaptionMade,
    Hello,
    Phase,
    PhaseFinished,
    PhaseProgress,
    PhaseStarted,
    RunFailed,
    RunFinished,
)
from trainer.protocol.job import PROTOCOL_VERSION
from trainer.protocol.run_folder import EventWriter, RunFolder


def main(words: list[str]) -> int:
    request, run = read_request(Path(words[words.index("caption") + 1])), RunFolder(Path(words[-1]))
    seconds = float(os.environ.get("STAND_IN_CAPTION_SECONDS", "0"))
    with run.hold_lock():
        events = EventWriter(run.events_file)
        say = events.write
        say(Hello(protocol_version=PROTOCOL_VERSION, trainer_version="0", pid=os.getpid(), device="CPU"))
        if request.model == "foreign":
            say(
                RunFailed(
                    kind="caption_model", message="foreign cannot describe clips.", hint="Choose another."
                )
            )
            return 1
        total = len(request.clips)
        say(PhaseStarted(phase=Phase.CAPTIONING, total=total, unit="clips"))
        for number, one in enumerate(request.clips):
            name = Path(one.clip.source).name
            say(PhaseProgress(phase=Phase.CAPTIONING, done=number, total=total, message=name))
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if any(isinstance(command, Stop) for _, command in run.waiting_commands()):
                    say(RunFinished(reason="stopped", step=0))
                    return 0
                time.sleep(0.02)
            if name.startswith("bad"):
                say(
                    CaptionFailed(
                        clip=one.id, key=one.key, message=f"{name} cannot be read.", hint="Convert it."
                    )
                )
            else:
                text = f"A slow orbit around {Path(name).stem}, seen in {len(one.clip.windows[0])} frames."
                say(CaptionMade(clip=one.id, key=one.key, text=text, seconds=seconds))
        say(PhaseFinished(phase=Phase.CAPTIONING, seconds=0.0))
        say(RunFinished(reason="completed", step=total))
        events.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
