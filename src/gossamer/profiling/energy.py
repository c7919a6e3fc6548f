"""How much energy a call takes: read from a counter of the processor or of a GPU, or modelled from operations.

Counters are those of Intel's Running Average Power Limit, which Linux shows as powercap zones (AMD's too), and NVML's
of an NVIDIA GPU. The model is that of Sathish et al., "Verifiable and Energy Efficient Medical Image Analysis with
Quantised Self-attentive Deep Neural Networks", with operations of a 45 nm chip at 0.9 V (Horowitz, "Computing's energy
problem", ISSCC 2014). The two are never mixed: a figure is ``measured`` or ``modelled``.
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
"""Energy of a multiplication and of an addition, 45 nm at 0.9 V."""


@dataclass(frozen=True)
class EnergyCounter:
    """Something that counts energy, and begins again at 0 when it is full.

    Attributes:
        name: of what it counts, such as ``package-0``.
        read: the count now.
        joules: of one count.
        largest: count after which it begins again; None where it never does.
    """

    name: str
    read: Callable[[], int]
    joules: float
    largest: int | None = None

    def between(self, before: int, after: int) -> float:
        """Return the energy in J between two counts, of which the second may lie behind one new beginning."""
        if after >= before or self.largest is None:
            return self.joules * (after - before)
        return self.joules * (self.largest - before + after)


@dataclass(frozen=True)
class EnergyMeter:
    """Counters that together see what a call uses.

    Attributes:
        name: of the means, such as ``RAPL``.
        counters: whose energies add up; none counts what another counts.
    """

    name: str
    counters: tuple[EnergyCounter, ...]

    def read(self) -> tuple[int, ...]:
        """Return every count now."""
        return tuple(counter.read() for counter in self.counters)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Return the energy in J between two readings, which lie less than one round of a counter apart."""
        return sum(
            counter.between(first, last) for counter, first, last in zip(self.counters, before, after, strict=True)
        )


def open_meter(device: Literal["cpu", "gpu"] = "cpu", root: Path = POWERCAP) -> EnergyMeter | str:
    """Return a meter of the processor packages, or of the GPUs; or the reason why there is none.

    Args:
        device: what does the work that is to be measured.
        root: folder of the powercap zones.
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
    """Return the energy of a call in J, above what the machine takes when this process sleeps.

    The counters see whole packages, hence other programs too: measure on a machine that does nothing else. Idle power
    is measured just before, and stated beside the energy that it is subtracted from.

    Args:
        call: what to measure; it is called once to warm up, then again and again.
        meter: of ``open_meter``, which is called if left out.
        seconds: about how long to measure; one call is measured at least.
        idle_seconds: how long to sleep.
        clock: seconds that pass.
        sleep: to idle.
    """
    if meter is None:
        meter = open_meter()
    if isinstance(meter, str):
        return _unavailable(meter)
    call()
    try:
        begin, before = clock(), meter.read()
        sleep(idle_seconds)
        idle = meter.joules(before, meter.read()) / (clock() - begin)
        calls, gross = 0, 0.0
        begin, before = clock(), meter.read()
        while calls == 0 or clock() - begin < seconds:
            call()
            # Read after every call: over long measurements a counter may begin again more than once.
            now = meter.read()
            calls, gross, before = calls + 1, gross + meter.joules(before, now), now
        passed = clock() - begin
    except (OSError, ValueError) as error:
        return _unavailable(f"{meter.name} cannot be read any more ({error})")
    where = f"{meter.name} of {', '.join(counter.name for counter in meter.counters)}"
    if gross <= 0:
        return _unavailable(f"{where} stood still for {passed:.1f} s of work, as in many virtual machines")
    net = (gross - idle * passed) / calls
    told = f"{gross / calls:.3g} J a call and {idle:.3g} W idle"
    if net <= 0:
        return _unavailable(f"{where}: {told}, so that the call does not stand out of {passed:.1f} s")
    how = f"{where}, {calls} calls in {passed:.1f} s: {told}, which is subtracted; other programs are counted too"
    return Figure(net, "J", "measured", how)


def modelled_energy(macs: float, precision: Literal["float32", "int8"] = "float32") -> Figure:
    """Return the energy in J that the paper's model gives: E = MACs (e_multiplication + e_addition).

    It leaves out memory, exponentials and quantizing, so that of two precisions it always gives the same ratio, 0.05,
    whatever the network. It is no figure of this machine.

    Args:
        macs: multiply-accumulates.
        precision: of all of them.
    """
    product, addition = PICOJOULES[precision]
    how = (
        f"{macs:.4g} MACs, all in {precision}, x ({product:g} + {addition:g}) pJ of a multiplication and an addition, "
        "45 nm at 0.9 V; memory left out; not this machine"
    )
    return Figure(macs * (product + addition) * 1e-12, "J", "modelled", how)


def _package_meter(root: Path) -> EnergyMeter | str:
    """Return the packages' counters; zones inside a package, and of the whole platform, count the same energy again."""
    zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    counters, faults = [], []
    for zone in zones:
        try:
            name = (zone / "name").read_text().strip()
            if not name.startswith("package"):
                continue
            count, largest = _count(zone / "energy_uj"), _count(zone / "max_energy_range_uj")
        except PermissionError:
            faults.append(f"{zone / 'energy_uj'} may be read by root alone")
        except (OSError, ValueError) as error:
            faults.append(f"{zone} cannot be read ({error})")
        else:
            if count == 0:
                faults.append(f"{zone / 'energy_uj'} is 0")
                continue
            counters.append(EnergyCounter(name, lambda file=zone / "energy_uj": _count(file), 1e-6, largest))
    if faults:  # a package that cannot be read would be missing in the sum
        return "; ".join(faults)
    if not counters:
        return f"no RAPL counter of a processor package in {root}, as in most virtual machines and containers"
    return EnergyMeter("RAPL", tuple(counters))


def _count(file: Path) -> int:
    return int(file.read_text())


def _gpu_meter() -> EnergyMeter | str:
    try:
        import pynvml  # type: ignore[import-not-found]
    except ImportError:
        return "pynvml is not installed, which reads NVML"
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        for handle in handles:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        return f"NVML cannot be read ({error})"
    if not handles:
        return "NVML knows no GPU"

    def reader(handle: object) -> Callable[[], int]:
        def read() -> int:
            try:
                return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            except pynvml.NVMLError as error:
                raise OSError(str(error)) from error

        return read

    counters = (EnergyCounter(f"GPU {index}", reader(handle), 1e-3) for index, handle in enumerate(handles))
    return EnergyMeter("NVML", tuple(counters))


def _unavailable(reason: str) -> Figure:
    return Figure(None, "J", "unavailable", reason)
