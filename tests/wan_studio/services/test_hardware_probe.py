import psutil

from wan_studio.services.hardware_probe import HardwareProbe, disk_free_bytes


def test_a_snapshot_has_memory_and_disk_and_says_why_there_is_no_gpu(tmp_path):
    probe = HardwareProbe()
    for _ in range(2):
        snapshot = probe.snapshot(tmp_path / "not" / "yet" / "there")
        assert snapshot.ram_total_bytes == psutil.virtual_memory().total
        assert 0 < snapshot.ram_available_bytes <= snapshot.ram_total_bytes
        assert snapshot.disk_free_bytes > 0
        # Either GPUs or the reason why there are none, never both.
        assert bool(snapshot.gpus) != bool(snapshot.gpu_problem)
        for gpu in snapshot.gpus:
            assert 0 <= gpu.vram_used_bytes <= gpu.vram_total_bytes


def test_free_space_is_asked_of_the_nearest_folder_that_exists(tmp_path):
    assert disk_free_bytes(tmp_path / "a" / "b") > 0
