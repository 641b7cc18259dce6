import os
import subprocess
import sys
import threading
import time

import pytest

from wan_studio.services.lower_priority import NICENESS, is_trainer_at_work, lower_thread


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for a thread's niceness")
def test_a_thread_is_lowered_alone():
    seen = []

    def work():
        lower_thread()
        lower_thread()
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [max(NICENESS, before)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_a_trainer_of_anybody_is_seen_while_it_runs(tmp_path):
    (tmp_path / "trainer.py").write_text("import time; time.sleep(60)")
    process = subprocess.Popen([sys.executable, "-m", "trainer", "run", "job.json"], cwd=tmp_path)
    try:
        end = time.monotonic() + 10
        while not is_trainer_at_work():
            assert time.monotonic() < end
    finally:
        process.kill()
        process.wait()
