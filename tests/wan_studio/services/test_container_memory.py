"""Limits of memory of both versions of control groups, in made folders."""

from wan_studio.services.container_memory import ContainerLimits, ContainerMemory

GIB = 2**30
RAM = 64 * GIB


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")
    return folder


def limits(root, *lines):
    own = root.parent / "own"
    own.write_text("".join(f"{line}\n" for line in lines))
    return ContainerLimits(root, own)


def test_the_second_version_counts_cached_files_as_free(tmp_path):
    root = group(
        tmp_path / "cgroup",
        memory__max=8 * GIB,
        memory__current=5 * GIB,
        memory__stat=f"anon {GIB}\ninactive_file {2 * GIB}",
    )
    assert limits(root, "0::/").read(RAM) == ContainerMemory(8 * GIB, 5 * GIB)


def test_the_first_version_is_read_where_its_memory_controller_lies(tmp_path):
    root = tmp_path / "cgroup"
    group(
        root / "memory",
        memory__limit_in_bytes=4 * GIB,
        memory__usage_in_bytes=3 * GIB,
        memory__stat=f"inactive_file 1\ntotal_inactive_file {GIB}",
    )
    found = limits(root, "5:cpu,cpuacct:/docker/ab", "4:memory:/docker/ab", "0::/").read(RAM)
    assert found == ContainerMemory(4 * GIB, 2 * GIB)


def test_a_group_above_may_be_the_tighter_one(tmp_path):
    root = tmp_path / "cgroup"
    group(root / "user.slice", memory__max=3 * GIB, memory__current=GIB)
    group(root / "user.slice" / "app", memory__max=16 * GIB, memory__current=GIB)
    assert limits(root, "0::/user.slice/app").read(RAM) == ContainerMemory(3 * GIB, 2 * GIB)


def test_no_limit_is_none_and_one_above_the_ram_as_well(tmp_path):
    root = group(tmp_path / "cgroup", memory__max="max", memory__current=GIB)
    assert limits(root, "0::/").read(RAM) is None
    group(root / "memory", memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=GIB)
    assert limits(root, "4:memory:/", "0::/").read(RAM) is None


def test_a_system_without_control_groups_has_no_limit(tmp_path):
    assert ContainerLimits(tmp_path / "none", tmp_path / "neither").read(RAM) is None


def test_files_that_come_apart_are_no_limit(tmp_path):
    root = group(tmp_path / "cgroup", memory__max="", memory__current="x")
    assert limits(root, "0::/", "", "nonsense").read(RAM) is None
