"""Sweep two parameters of an epidemic with concurrent.futures.ProcessPoolExecutor.

    python docs/examples/sweep.py                  on the stdlib's executor
    python -m zexec run docs/examples/sweep.py     on zexec, unchanged
    ... [SIZE]                                     how many values of each parameter (24)

Each task simulates one epidemic (the SIR model: susceptible, infected, recovered) for one rate of infection and one of
recovery. Theory knows how many will have had it in the end, z = 1 - exp(-z * infection / recovery), and each simulation
is checked against that.
"""

import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

DAYS_PER_STEP = 0.004


def simulate(infection, recovery):
    """Simulate until nearly nobody is infected; return the peak, its day, and the share that has had it."""
    susceptible, infected, day, peak, peak_day = 1 - 1e-6, 1e-6, 0.0, 0.0, 0.0
    while infected >= 1e-9:
        new = infection * susceptible * infected * DAYS_PER_STEP
        infected += new - recovery * infected * DAYS_PER_STEP
        susceptible -= new
        day += DAYS_PER_STEP
        if infected > peak:
            peak, peak_day = infected, day
    return peak, peak_day, 1 - susceptible


def final_share(infection, recovery):
    """Solve z = 1 - exp(-z * infection / recovery) by putting z into the right side until it stays."""
    z = 1.0
    for _ in range(1000):
        z = 1 - math.exp(-z * infection / recovery)
    return z


def main():
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    infections = [0.25 + 0.75 * i / size for i in range(size)]
    recoveries = [0.05 + 0.10 * i / size for i in range(size)]
    start = time.perf_counter()
    done = {}
    with ProcessPoolExecutor() as executor:
        futures = {executor.submit(simulate, b, g): (b, g) for b in infections for g in recoveries}
        for future in as_completed(futures):
            done[futures[future]] = future.result()
            if len(done) % math.ceil(len(futures) / 4) == 0 or len(done) == len(futures):
                seconds = time.perf_counter() - start
                print(f"{len(done):5} of {len(futures)} epidemics, {seconds:6.2f} s", flush=True)
    print(f"{len(done) / seconds:.0f} tasks/s")

    worst = max(abs(share - final_share(*rates)) for rates, (_, _, share) in done.items())
    assert worst < 0.01, f"simulation and theory differ by {worst}"
    print(f"all agree with theory to {worst:.1e}")
    for text, choose in (("mildest", min), ("worst", max)):
        (infection, recovery), (peak, day, share) = choose(done.items(), key=lambda item: item[1][0])
        print(
            f"{text:8} infection {infection:.2f}/day, recovery {recovery:.2f}/day: "
            f"{peak:.0%} infected at the peak on day {day:.0f}, {share:.0%} in all"
        )
    print(f"ran on {type(executor).__module__}.{type(executor).__name__}")


if __name__ == "__main__":
    main()
