"""Numbers as people read them: 266,610; 1.07 MB; 12.3 M; 41.7 µs."""

import math

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def significant(x: float, digits: int = 3) -> str:
    """x with this many significant digits and no exponent."""
    if not math.isfinite(x) or x == 0:
        return f"{x:g}"
    x = float(f"{x:.{digits - 1}e}")  # first, so that 9.996 counts as a number above ten
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(x))))
    return f"{x:,.{decimals}f}"


def amount(x: float, unit: str = "", digits: int = 3) -> str:
    """x with a decimal prefix: 12.3 M, 812, 1.07 MB. Whole numbers below 1000 stay whole."""
    rounded = float(f"{x:.{digits - 1}e}")  # 999,999 is 1.00 M, not 1,000 k
    for scale, prefix in _PREFIXES:
        if abs(rounded) >= scale:
            return f"{significant(rounded / scale, digits)} {prefix}{unit}"
    text = f"{x:.0f}" if x == round(x) else significant(x)
    return f"{text} {unit}".rstrip()


def duration(seconds: float) -> str:
    """41.7 µs, 3.20 ms, 12.0 s, 4 min 10 s, 1 h 5 min."""
    if seconds >= 60:
        whole = round(seconds)
        if whole < 3600:
            return f"{whole // 60} min {whole % 60} s"
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    rounded = float(f"{seconds:.2e}")
    for scale, unit in _TIMES:
        if rounded >= scale:
            return f"{significant(rounded / scale)} {unit}"
    return f"{significant(seconds * 1e9)} ns"


def ratio(x: float) -> str:
    """How many times: 16×, 3.1×, 0.52×."""
    if 0.95 <= x < 10:
        return f"{x:.1f}×"
    return f"{significant(x, 2 if x < 100 else 3)}×"
