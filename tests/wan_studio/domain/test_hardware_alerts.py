import pytest

from tests.wan_studio.domain.machines import CARD, GIB, card, machine, program
from wan_studio.domain.hardware import GpuState, ThrottleReason
from wan_studio.domain.hardware_alerts import (
    HELD_SAMPLES,
    AlertKind,
    AlertLevel,
    StepPace,
    TrainingNow,
    alerts_of,
)

COOL = machine(CARD)
SLOW = TrainingNow(is_running=True, step_seconds=8.1, usual_step_seconds=3.9)


def kinds(alerts):
    return [alert.kind for alert in alerts]


def test_a_calm_machine_has_no_alerts():
    assert alerts_of(COOL) == ()
    assert alerts_of(machine()) == ()
    # At work every card is at its power limit, and is meant to be.
    at_work = card(throttle_reasons=frozenset({ThrottleReason.POWER_CAP}), temperature_celsius=86)
    assert alerts_of(machine(at_work)) == ()


def test_a_card_within_three_degrees_of_its_limit_is_hot():
    (alert,) = alerts_of(machine(card(temperature_celsius=87)))
    assert (alert.kind, alert.level) == (AlertKind.HOT, AlertLevel.WARNING)
    assert alert.short == "GPU hot 87 °C"
    assert alert.text == "NVIDIA GeForce RTX 4090 has 87 °C, and slows itself down at 90 °C."
    assert alert.hint


@pytest.mark.parametrize(
    ("reason", "level"),
    [
        (ThrottleReason.SOFTWARE_THERMAL, AlertLevel.WARNING),
        (ThrottleReason.HARDWARE_THERMAL, AlertLevel.PROBLEM),
    ],
)
def test_heat_that_slows_the_card_is_told_whatever_the_thermometer_says(reason, level):
    reasons = frozenset({reason, ThrottleReason.HARDWARE_SLOWDOWN})
    (alert,) = alerts_of(machine(card(throttle_reasons=reasons, slowdown_celsius=None)))
    assert (alert.kind, alert.level) == (AlertKind.HOT, level)
    assert "slows down because of heat" in alert.text


@pytest.mark.parametrize("reason", [ThrottleReason.POWER_BRAKE, ThrottleReason.HARDWARE_SLOWDOWN])
def test_a_card_that_is_braked_by_its_power_is_throttled(reason):
    (alert,) = alerts_of(machine(card(throttle_reasons=frozenset({reason}))))
    assert (alert.kind, alert.level) == (AlertKind.THROTTLED, AlertLevel.PROBLEM)
    assert "power" in alert.hint


def test_heat_is_told_of_until_it_was_gone_for_a_while():
    hot = machine(card(temperature_celsius=88))
    assert kinds(alerts_of(COOL, [hot, *[COOL] * (HELD_SAMPLES - 1)])) == [AlertKind.HOT]
    assert alerts_of(COOL, [hot, *[COOL] * HELD_SAMPLES]) == ()


def test_a_hot_card_that_is_lost_is_told_as_lost_alone_and_one_that_skips_a_figure_as_hot():
    hot = machine(card(temperature_celsius=88))
    assert kinds(alerts_of(machine(card(state=GpuState.LOST, temperature_celsius=None)), [hot])) == [
        AlertKind.GPU_UNUSABLE
    ]
    (alert,) = alerts_of(machine(card(temperature_celsius=None)), [hot])
    assert alert.short == "GPU hot 88 °C"


def test_vram_that_another_program_holds_is_told_with_its_name():
    used = machine(
        card(vram_used_bytes=5 * GIB, processes=(program(42, "blender", 4.5), program(9, "gnome-shell", 0.3)))
    )
    (alert,) = alerts_of(used)
    assert (alert.kind, alert.level) == (AlertKind.VRAM_TAKEN, AlertLevel.WARNING)
    assert alert.short == "blender holds 4.8 GB VRAM"
    assert alert.text == "blender (pid 42) and 1 more hold 4.8 GB of the VRAM of NVIDIA GeForce RTX 4090."


def test_our_own_trainers_memory_is_not_taken_by_another():
    used = machine(card(vram_used_bytes=20 * GIB, processes=(program(7, "python", 19.0),)))
    assert alerts_of(used, training=TrainingNow(is_running=True, own_pids=frozenset({7}))) == ()
    assert kinds(alerts_of(used)) == [AlertKind.VRAM_TAKEN]


def test_a_desktops_own_memory_is_not_worth_a_word():
    assert alerts_of(machine(card(vram_used_bytes=GIB, processes=(program(9, "gnome-shell", 0.9),)))) == ()


def test_a_program_that_has_just_come_is_not_told_of_yet():
    used = machine(card(vram_used_bytes=5 * GIB, processes=(program(42, "blender", 4.5),)))
    assert alerts_of(used, [COOL, used]) == ()
    assert kinds(alerts_of(used, [COOL, used, used])) == [AlertKind.VRAM_TAKEN]


def test_where_windows_does_not_tell_who_holds_it_the_sum_is_told_while_nothing_of_ours_runs():
    programs = (program(1, "chrome.exe", None), program(2, "dwm.exe", None))
    used = machine(card(vram_used_bytes=6 * GIB, processes=programs, is_wddm=True), is_windows=True)
    (alert,) = alerts_of(used)
    assert "6.0 GB" in alert.text
    assert "Windows does not tell by which" in alert.text
    assert "chrome.exe, dwm.exe" in alert.text
    assert alerts_of(used, training=TrainingNow(is_running=True)) == ()


def test_in_a_container_our_own_trainer_is_not_taken_for_another_program():
    # The driver names it by the host's number, which nobody here can give a name to.
    used = machine(card(vram_used_bytes=20 * GIB, processes=(program(123456, "", 19.0),)))
    assert alerts_of(used, training=TrainingNow(is_running=True, own_pids=frozenset({7}))) == ()


def test_a_full_card_with_slow_steps_on_windows_spills_into_ram():
    full = card(vram_used_bytes=round(23.7 * GIB), processes=())
    (alert,) = alerts_of(machine(full, is_windows=True), training=SLOW)
    assert (alert.kind, alert.level) == (AlertKind.SPILLING, AlertLevel.PROBLEM)
    assert "8.1 s instead of 3.9 s" in alert.text
    assert kinds(alerts_of(machine(full, is_wsl=True), training=SLOW)) == [AlertKind.SPILLING]


@pytest.mark.parametrize(
    ("used_gib", "training", "is_windows"),
    [
        (23.7, SLOW, False),
        (23.0, SLOW, True),
        (23.7, TrainingNow(is_running=True, step_seconds=7.0, usual_step_seconds=3.9), True),
        (23.7, TrainingNow(is_running=True), True),
    ],
)
def test_one_sign_alone_is_no_spill(used_gib, training, is_windows):
    full = card(vram_used_bytes=round(used_gib * GIB), processes=())
    assert alerts_of(machine(full, is_windows=is_windows), training=training) == ()


def test_a_lost_gpu_stands_before_a_warm_one():
    alerts = alerts_of(
        machine(card(temperature_celsius=88), card(index=1, uuid="GPU-1", state=GpuState.LOST))
    )
    assert kinds(alerts) == [AlertKind.GPU_UNUSABLE, AlertKind.HOT]
    assert (alerts[0].gpu_index, alerts[0].short) == (1, "GPU lost")


def test_a_gpu_that_somebody_split_is_no_alert():
    assert alerts_of(machine(card(state=GpuState.SPLIT, vram_used_bytes=20 * GIB))) == ()


def test_the_usual_pace_is_the_median_and_needs_a_few_steps():
    pace = StepPace()
    assert (pace.last, pace.usual) == (None, None)
    for step, seconds in enumerate((4.0, 4.0, 30.0, 4.0), start=1):
        pace.add(step, seconds)
        pace.add(step, seconds)
    assert pace.usual is None
    pace.add(5, 9.0)
    pace.add(6, 0.0)
    assert (pace.last, pace.usual) == (9.0, 4.0)
