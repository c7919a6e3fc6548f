"""Energy of a call: read from a counter of the processor or of a GPU, or modelled from operations.

Counters are those of Intel's Running Average Power Limit, which Linux offers as powercap zones (for AMD too), and those
of NVML for an NVIDIA GPU. The model is that of Sathish et al., "Verifiable and Energy Efficient Medical Image Analysis
with Quantised Self-attentive Deep Neural Networks", with operations of a 45 nm chip at 0.9 V (Horowitz, "Computing's
energy problem", ISSCC 2014). The two are never mixed: a figure is ``measured`` or ``modelled``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gossamer.profiling.figure import Figure

POWERCAP = Path("/sys/class/powercap")
PICOJOULES: dict[Literal["float32", "int8"], tuple[float, float]] = {"float32": (3.7, 0.9), "int8": (0.2, 0.03)}
"""Energy of a multiplication and of an addition in pJ, 45 nm at 0.9 V."""


@dataclass(frozen=True)
class EnergyCounter:
    """A counter of energy that restarts at 0 when it is full.

    Attributes:
        name: Name of the counted part, such as ``package-0``.
        read: Function that returns the current count.
        joules: Energy of one count, in J.
        largest: Count after which it restarts; None if it never does.
    """

    name: str
    read: Callable[[], int]
    joules: float
    largest: int | None = None

    def between(self, before: int, after: int) -> float:
        """Return the energy in J between two counts, with at most one restart between them."""
        if after >= before or self.largest is None:
            return self.joules * (after - before)
        return self.joules * (self.largest - before + after)


@dataclass(frozen=True)
class EnergyMeter:
    """Counters that together measure the energy of a call.

    Attributes:
        name: Name of the method, such as ``RAPL``.
        counters: Counters whose energies add up, without overlap.
    """

    name: str
    counters: tuple[EnergyCounter, ...]

    def read_counts(self) -> tuple[int, ...]:
        """Return the current counts."""
        return tuple(counter.read() for counter in self.counters)

    def joules_between(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Return the energy in J between two readings, with at most one restart of each counter between them."""
        return sum(
            counter.between(first, last) for counter, first, last in zip(self.counters, before, after, strict=True)
        )


def open_meter(device: Literal["cpu", "gpu"] = "cpu", root: Path = POWERCAP) -> EnergyMeter | str:
    """Return a meter of the processor packages or of the GPUs, or the reason why there is none.

    Args:
        device: Device that does the measured work.
        root: Folder of the powercap zones.
    """
    return _gpu_meter() if device == "gpu" else _package_meter(root)


def measure_energy(
    call: Callable[[], object],
    *,
    meter: EnergyMeter | str | None = None,
    seconds: float = 2.0,
    idle_seconds: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> Figure:
    """Return the energy of a call in J, in excess of the energy of the machine while this process sleeps.

    The counters measure whole packages, and therefore other programs too: measure on a machine that does nothing else.
    Idle power is measured just before, subtracted, and stated.

    Args:
        call: Function to measure; it is called once to warm up, then repeatedly.
        meter: Meter, or the reason why there is none (default: ``open_meter()``).
        seconds: Approximate time of the measurement, in seconds; at least one call is measured.
        idle_seconds: Time for which idle power is measured, in seconds.
        clock: Function that returns the time in seconds.
        sleep: Function that waits for some seconds.
    """
    if meter is None:
        meter = open_meter()
    if isinstance(meter, str):
        return _unavailable_energy(meter)
    call()
    try:
        begin, before = clock(), meter.read_counts()
        sleep(idle_seconds)
        idle = meter.joules_between(before, meter.read_counts()) / (clock() - begin)
        calls, gross = 0, 0.0
        begin, before = clock(), meter.read_counts()
        while calls == 0 or clock() - begin < seconds:
            call()
            # Read after every call: over long measurements a counter may restart more than once.
            now = meter.read_counts()
            calls, gross, before = calls + 1, gross + meter.joules_between(before, now), now
        passed = clock() - begin
    except (OSError, ValueError) as error:
        return _unavailable_energy(f"{meter.name} became unreadable ({error})")
    where = f"{meter.name} of {', '.join(counter.name for counter in meter.counters)}"
    if gross <= 0:
        return _unavailable_energy(f"{where} did not change during {passed:.1f} s of work, as in many virtual machines")
    net = (gross - idle * passed) / calls
    rates = f"{gross / calls:.3g} J a call and {idle:.3g} W idle"
    if net <= 0:
        return _unavailable_energy(f"{where}: {rates}, so that the call cannot be distinguished within {passed:.1f} s")
    how = f"{where}, {calls} calls in {passed:.1f} s: {rates}, which is subtracted; other programs are counted too"
    return Figure(net, "J", "measured", how)


def modelled_energy(macs: float, precision: Literal["float32", "int8"] = "float32") -> Figure:
    """Return the energy in J of the paper's model: E = MACs (e_multiplication + e_addition).

    The model ignores memory, exponentials and quantization, so that the ratio of two precisions is always 0.05, for any
    network. It does not describe this machine.

    Args:
        macs: Number of multiply-accumulates.
        precision: Precision of all of them.
    """
    product, addition = PICOJOULES[precision]
    how = (
        f"{macs:.4g} MACs, all in {precision}, x ({product:g} + {addition:g}) pJ of a multiplication and an addition, "
        "45 nm at 0.9 V; without memory; not this machine"
    )
    return Figure(macs * (product + addition) * 1e-12, "J", "modelled", how)


def _package_meter(root: Path) -> EnergyMeter | str:
    """Return the counters of the packages; zones inside a package and of the platform count the same energy again."""
    zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    counters, faults = [], []
    for zone in zones:
        try:
            name = (zone / "name").read_text().strip()
            if not name.startswith("package"):
                continue
            count, largest = _read_count(zone / "energy_uj"), _read_count(zone / "max_energy_range_uj")
        except PermissionError:
            faults.append(f"{zone / 'energy_uj'} can only be read by root")
        except (OSError, ValueError) as error:
            faults.append(f"{zone} cannot be read ({error})")
        else:
            if count == 0:
                faults.append(f"{zone / 'energy_uj'} is 0")
                continue
            counters.append(EnergyCounter(name, lambda file=zone / "energy_uj": _read_count(file), 1e-6, largest))
    if faults:  # a package that cannot be read would be missing from the sum
        return "; ".join(faults)
    if not counters:
        return f"no RAPL counter of a processor package in {root}, as in most virtual machines and containers"
    return EnergyMeter("RAPL", tuple(counters))


def _read_count(file: Path) -> int:
    return int(file.read_text())


def _gpu_meter() -> EnergyMeter | str:
    try:
        import pynvml  # type: ignore[import-not-found]
    except ImportError:
        return "pynvml, which reads NVML, is not installed"
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        for handle in handles:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        return f"NVML cannot be read ({error})"
    if not handles:
        return "NVML reports no GPU"

    def make_reader(handle: object) -> Callable[[], int]:
        def read_counter() -> int:
            try:
                return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            except pynvml.NVMLError as error:
                raise OSError(str(error)) from error

        return read_counter

    counters = (EnergyCounter(f"GPU {index}", make_reader(handle), 1e-3) for index, handle in enumerate(handles))
    return EnergyMeter("NVML", tuple(counters))


def _unavailable_energy(reason: str) -> Figure:
    return Figure(None, "J", "unavailable", reason)
