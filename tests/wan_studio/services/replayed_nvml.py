"""NVML as a real card answered it: replays what record_nvml.py wrote, and variants of it that a test names."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

RECORDING = Path(__file__).with_name("recorded") / "h200.json"
LIBRARY_NOT_FOUND, DRIVER_NOT_LOADED, NO_PERMISSION = 12, 9, 4
NOT_SUPPORTED, GPU_IS_LOST, RESET_REQUIRED, UNKNOWN = 3, 15, 16, 999


def error(code):
    """An answer that is an error of NVML."""
    return {"error": code}


def value(answer):
    """An answer that is a value."""
    return {"value": answer}


class ReplayedNvml:
    """Stands where the module pynvml stands.

    Attributes:
        asked: How often each question was asked.
        changes: Answers that replace the recorded ones, by question; of one GPU by (its number, question).
        init_error: What nvmlInit raises; 0 for nothing.
        milliseconds: What the recorded answers took on the real card, summed up.
    """

    NVMLError = pynvml.NVMLError
    nvmlMemory_v2 = pynvml.nvmlMemory_v2

    def __init__(self, moment="idle", *, gpus=1, init_error=0, changes=None):
        self.recorded = json.loads(RECORDING.read_text(encoding="utf-8"))[moment]
        self.gpus = gpus
        self.init_error = init_error
        self.changes: dict[Any, dict[str, Any]] = dict(changes or {})
        self.asked: Counter[str] = Counter()
        self.milliseconds = 0.0

    def recorded_value(self, question):
        """What the card answered."""
        return self.recorded["devices"][0][question]["value"]

    def __getattr__(self, question):
        if not question.startswith("nvml"):
            raise AttributeError(question)
        return lambda *arguments: self._answer(question, *arguments)

    def _answer(self, question, *arguments):
        self.asked[question] += 1
        if question == "nvmlInit" and self.init_error:
            raise pynvml.NVMLError(self.init_error)
        if question in ("nvmlInit", "nvmlShutdown"):
            return None
        if question == "nvmlSystemGetProcessName":
            named = self.recorded["processes"].get(str(arguments[0]), error(pynvml.NVML_ERROR_NOT_FOUND))
            return told(self.changes.get((arguments[0], question), named))
        if question in self.changes:
            return told(self.changes[question])
        if question == "nvmlDeviceGetCount":
            return self.gpus
        if not question.startswith("nvmlDevice"):
            return told(self.recorded[question])
        index, *rest = arguments
        question = "".join((question, *(f",{one}" for one in rest)))
        changed = self.changes.get((index, question), self.changes.get(question))
        if changed is not None:
            return told(changed)
        if question == "nvmlDeviceGetHandleByIndex":
            return index
        if question == "nvmlDeviceGetUUID" and index:
            # One card was recorded; a second one is the same with a name of its own.
            return f"{self.recorded_value(question)}-{index}"
        recorded = self.recorded["devices"][0].get(question, error(NOT_SUPPORTED))
        self.milliseconds += recorded.get("milliseconds", 0.0)
        return told(recorded)


def told(answer):
    """A recorded answer as the library gives it."""
    if "error" in answer:
        raise pynvml.NVMLError(answer["error"])
    if "missing" in answer:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    return _objects(answer["value"])


def _objects(plain):
    if isinstance(plain, dict):
        return SimpleNamespace(**{name: _objects(one) for name, one in plain.items()})
    return [_objects(one) for one in plain] if isinstance(plain, list) else plain
