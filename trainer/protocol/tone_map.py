"""From HDR to the picture that trains: one formula for what is seen and for what is trained.

A PQ or HLG picture in BT.2020 becomes one of ordinary range in BT.709, per pixel:

1. its three signals become light in nits. PQ by the curve of SMPTE ST 2084; HLG by that of BT.2100 on a
   display of 1000 nits, whose system gamma is 1.2;
2. the brightest of the three is rolled off by BT.2390's curve from 1000 nits to 203, the white of
   graphics in HDR (BT.2408); the other two shrink in the same ratio, so that hues stay;
3. BT.2020's primaries become BT.709's; what lies outside is drawn towards its own grey until it fits;
4. 203 nits become 1, and the signal is the light to the power of 1 / 2.4 (BT.1886).

The formula is written as a table of `GRID` steps a colour, which FFmpeg's filter `lut3d` applies with
tetrahedral interpolation to 16-bit RGB.
"""

import math

TONE_MAP_FORMAT = 1
"""Raise it when HDR pictures come out otherwise than before."""

PQ, HLG = 16, 18
"""Numbers of the transfer characteristics in ITU-T H.273."""
GRID = 33

_BRIGHTEST_NITS = 1000.0
_WHITE_NITS = 203.0
_HLG_GAMMA = 1.2
_DISPLAY_GAMMA = 2.4
_LUMINANCE_2020 = (0.2627, 0.6780, 0.0593)
_LUMINANCE_709 = (0.2126, 0.7152, 0.0722)
_TO_709 = (
    (1.660491, -0.587641, -0.072850),
    (-0.124550, 1.132900, -0.008349),
    (-0.018151, -0.100579, 1.118730),
)
_M1, _M2 = 2610 / 16384, 2523 / 32
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128

Colour = tuple[float, float, float]


def is_hdr(transfer: int) -> bool:
    """Whether a picture with this transfer characteristic has to be mapped."""
    return transfer in (PQ, HLG)


def mapped(colour: Colour, transfer: int) -> Colour:
    """A colour's BT.709 signals, 0..1, from its PQ or HLG signals, 0..1, full range."""
    nits = _pq_light(colour) if transfer == PQ else _hlg_light(colour)
    brightest = max(nits)
    ratio = _rolled_off(brightest) / brightest if brightest > 0 else 0.0
    light = (ratio * nits[0] / _WHITE_NITS, ratio * nits[1] / _WHITE_NITS, ratio * nits[2] / _WHITE_NITS)
    red, green, blue = (_signal(value) for value in _within_709(light))
    return red, green, blue


def cube_text(transfer: int) -> str:
    """The formula as the text of a `.cube` file, red fastest."""
    steps = [at / (GRID - 1) for at in range(GRID)]
    lines = [f"LUT_3D_SIZE {GRID}"]
    for blue in steps:
        for green in steps:
            lines += ["{:.6f} {:.6f} {:.6f}".format(*mapped((red, green, blue), transfer)) for red in steps]
    return "\n".join(lines) + "\n"


def _pq_light(colour: Colour) -> Colour:
    return _pq_nits(colour[0]), _pq_nits(colour[1]), _pq_nits(colour[2])


def _pq_nits(signal: float) -> float:
    root = signal ** (1 / _M2)
    return 10_000 * (max(root - _C1, 0.0) / (_C2 - _C3 * root)) ** (1 / _M1)


def _pq_signal(nits: float) -> float:
    power = (nits / 10_000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _hlg_light(colour: Colour) -> Colour:
    scene = [_hlg_scene(signal) for signal in colour]
    luminance = sum(weight * value for weight, value in zip(_LUMINANCE_2020, scene, strict=True))
    gain = _BRIGHTEST_NITS * luminance ** (_HLG_GAMMA - 1) if luminance > 0 else 0.0
    return gain * scene[0], gain * scene[1], gain * scene[2]


def _hlg_scene(signal: float) -> float:
    if signal <= 0.5:
        return signal * signal / 3
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * math.log(4 * a)
    return (math.exp((signal - c) / a) + b) / 12


def _rolled_off(nits: float) -> float:
    """BT.2390's curve: the same below its knee, and `_WHITE_NITS` at `_BRIGHTEST_NITS` and above."""
    top = _pq_signal(_BRIGHTEST_NITS)
    highest = _pq_signal(_WHITE_NITS) / top
    knee = 1.5 * highest - 0.5
    level = min(_pq_signal(nits) / top, 1.0)
    if level < knee:
        return nits
    t = (level - knee) / (1 - knee)
    level = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * highest
    )
    return _pq_nits(level * top)


def _within_709(light: Colour) -> Colour:
    """In BT.709's primaries, drawn towards grey of the same luminance where a part would be negative or above 1."""
    values = [sum(weight * value for weight, value in zip(row, light, strict=True)) for row in _TO_709]
    grey = sum(weight * value for weight, value in zip(_LUMINANCE_709, values, strict=True))
    grey = min(max(grey, 0.0), 1.0)
    kept = 1.0
    for value in values:
        if value < 0 and value < grey:
            kept = min(kept, grey / (grey - value))
        elif value > 1 and value > grey:
            kept = min(kept, (1 - grey) / (value - grey))
    red, green, blue = (grey + kept * (value - grey) for value in values)
    return red, green, blue


def _signal(light: float) -> float:
    return min(max(light, 0.0), 1.0) ** (1 / _DISPLAY_GAMMA)
