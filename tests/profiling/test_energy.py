"""Energy: a made tree of powercap zones whose counters wrap, and the constants of the paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.profiling.energy import EnergyCounter, EnergyMeter, measure_energy, modelled_energy, open_meter


class Machine:
    """Two packages that take 3 W and 5 W, and time that passes only when told."""

    def __init__(self, root: Path, counts: tuple[int, int], largest: tuple[int, int]) -> None:
        self.root, self.seconds, self.largest = root, 0.0, largest
        self.counts = [float(count) for count in counts]
        for number in (0, 1):
            zone(root, f"intel-rapl:{number}", f"package-{number}", counts[number], largest[number])
        # The same energy once more, and that of the whole platform: not to be added.
        zone(root, "intel-rapl:0:0", "core", 77, 10**9)
        zone(root, "intel-rapl:2", "psys", 77, 10**9)

    def pass_time(self, seconds: float, joules: tuple[float, float] = (0.0, 0.0)) -> None:
        self.seconds += seconds
        for number, watts in enumerate((3.0, 5.0)):
            added = 1e6 * (watts * seconds + joules[number])
            self.counts[number] = (self.counts[number] + added) % self.largest[number]
            file = self.root / f"intel-rapl:{number}" / "energy_uj"
            file.write_text(f"{round(self.counts[number])}\n")


def zone(root: Path, folder: str, name: str, count: int, largest: int) -> Path:
    (root / folder).mkdir(parents=True)
    for file, text in (("name", name), ("energy_uj", str(count)), ("max_energy_range_uj", str(largest))):
        (root / folder / file).write_text(text + "\n")
    return root / folder


# The second has counters that wrap while it idles, while it works, and more than once.
@pytest.mark.parametrize(
    ("counts", "largest"), [((11, 500), (10**12, 10**12)), ((29_000_000, 3_000_000), (30_000_000, 7_000_000))]
)
def test_energy_of_a_call_without_that_of_idling(
    tmp_path: Path, counts: tuple[int, int], largest: tuple[int, int]
) -> None:
    machine = Machine(tmp_path, counts, largest)
    meter = open_meter(root=tmp_path)
    assert isinstance(meter, EnergyMeter)
    assert [counter.name for counter in meter.counters] == ["package-0", "package-1"]
    found = measure_energy(
        lambda: machine.pass_time(0.25, (1.5, 0.75)),
        meter=meter,
        seconds=4,
        idle_seconds=0.5,
        clock=lambda: machine.seconds,
        sleep=machine.pass_time,
    )
    assert (found.unit, found.how) == ("J", "measured")
    assert found.value == pytest.approx(2.25, rel=1e-5)
    for words in ("RAPL of package-0, package-1", "16 calls in 4.0 s", "4.25 J a call", "8 W idle"):
        assert words in found.detail


def test_a_counter_begins_again() -> None:
    counter = EnergyCounter("package-0", lambda: 0, 1e-6, largest=1000)
    assert counter.between(300, 900) == pytest.approx(600e-6)
    assert counter.between(900, 300) == pytest.approx(400e-6)


def test_what_cannot_be_measured_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no RAPL counter" in str(open_meter(root=tmp_path / "absent"))
    still = zone(tmp_path / "zero", "intel-rapl:0", "package-0", 0, 1000)
    assert str(open_meter(root=tmp_path / "zero")) == f"{still / 'energy_uj'} is 0"
    (still / "energy_uj").write_text("no number")
    assert "cannot be read" in str(open_meter(root=tmp_path / "zero"))

    root = tmp_path / "locked"
    locked = zone(root, "intel-rapl:1", "package-1", 5, 1000) / "energy_uj"
    zone(root, "intel-rapl:0", "package-0", 5, 1000)
    read = Path.read_text

    def guarded(self: Path, *args: object, **kwargs: object) -> str:
        if self == locked:
            raise PermissionError(13, "Permission denied")
        return read(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", guarded)
    # One package alone would give a sum that is too small.
    assert str(locked) in str(open_meter(root=root))
    missing = measure_energy(lambda: None, meter=open_meter(root=root))
    assert (missing.value, missing.how, missing.unit) == (None, "unavailable", "J")
    assert "root" in missing.detail


@pytest.mark.parametrize("joules", [0.0, -1.0])
def test_a_counter_that_does_not_see_the_call_gives_no_figure(joules: float) -> None:
    now = [0.0, 100.0]  # seconds, joules

    def step(seconds: float, watts: float) -> None:
        now[0], now[1] = now[0] + seconds, now[1] + watts * seconds

    idle = 0.0 if joules == 0 else 8.0
    meter = EnergyMeter("made", (EnergyCounter("one", lambda: round(1e6 * now[1]), 1e-6),))
    found = measure_energy(
        lambda: step(0.5, idle + joules),
        meter=meter, seconds=1, clock=lambda: now[0], sleep=lambda seconds: step(seconds, idle),
    )  # fmt: skip
    assert (found.value, found.how) == (None, "unavailable")
    assert "1.0 s" in found.detail


def test_a_gpu_without_its_package_is_unavailable() -> None:
    meter = open_meter("gpu")
    assert isinstance(meter, EnergyMeter) or "NVML" in meter


def test_the_model_of_the_paper() -> None:
    # Table 3 of the paper: 4.6 pJ a MAC in float32 and 0.23 pJ in int8; SaDNN-seg's projections are 36.68 GMACs.
    whole, eighth = modelled_energy(36.679549440e9), modelled_energy(36.679549440e9, "int8")
    assert whole.value == pytest.approx(0.1687, abs=5e-5)
    assert eighth.value == pytest.approx(0.008436, abs=5e-7)
    assert (whole.how, whole.unit) == ("modelled", "J")
    for constant in ("3.7", "0.9", "45 nm", "not this machine"):
        assert constant in whole.detail
    assert "(0.2 + 0.03) pJ" in eighth.detail
