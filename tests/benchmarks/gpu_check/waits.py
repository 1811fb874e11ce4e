"""How often the host waits for the device, how many kernels it launches, and how busy that keeps the device."""

import re
import warnings
from collections import Counter

import torch
from torch.profiler import ProfilerActivity, profile

from tests.benchmarks.gpu_check.bench import Bench

WAITS = {True: re.compile("cuda(Stream|Event)Synchronize"), False: re.compile("aten::(_local_scalar_dense|nonzero)$")}
"""Of a GPU, in all that is called; of a CPU, what would wait."""
LAUNCHES = re.compile(r"cu(da)?LaunchKernel")


def check(bench: Bench) -> None:
    """Of one pass, by torch's profiler; and the lines of code that wait, by its debug mode."""
    batch = 64 if bench.on_gpu else 3
    depths = bench.depths(batch)
    inputs = bench.imposed(depths)
    bench.say(
        f"{batch} x {bench.length} tokens, bf16-mixed; everything is of one pass. Busy: time in kernels over that of",
        "the pass without a profiler.",
        "",
        "| execution | pass | iterations | waits an iteration | launches an iteration | ms | busy |",
        "|---|---|---:|---:|---:|---:|---:|",
    )
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.on_gpu else [])]
    tables: list[str] = []
    places: Counter[str] = Counter()
    for execution in ("dense", "compact"):
        model = bench.ours(execution=execution)
        for backward in (False, True):

            def step(model=model, backward=backward) -> None:
                with torch.set_grad_enabled(backward), torch.autocast(bench.device.type, torch.bfloat16):
                    states = model(**inputs).last_hidden_state
                if backward:
                    states.sum().backward()
                    model.zero_grad()

            seconds = bench.seconds(step)
            with profile(activities=activities) as profiler:
                step()
                bench.wait()
            names = Counter(event.name for event in profiler.events())
            waits = sum(count for name, count in names.items() if WAITS[bench.on_gpu].search(name))
            launches = sum(count for name, count in names.items() if LAUNCHES.search(name))
            averages = profiler.key_averages()
            kernels = sum(a.self_device_time_total for a in averages if a.device_type != torch.autograd.DeviceType.CPU)
            way, rounds = ("forward + backward" if backward else "forward"), int(depths.max())
            bench.say(
                f"| {execution} | {way} | {rounds} | {waits / rounds:.1f} | {launches / rounds:.0f} "
                f"| {1000 * seconds:.1f} | {kernels / 1e6 / seconds:.2f} |"
            )
            order = "self_device_time_total" if bench.on_gpu else "self_cpu_time_total"
            tables.append(
                f"{execution}, {way}\n{averages.table(sort_by=order, row_limit=25, max_name_column_width=90)}"
            )
            if bench.on_gpu and execution == "compact" and not backward:
                places = _places(step)
    (bench.out / "profile.txt").write_text("\n\n".join(tables))
    bench.say("", "The profiles are in profile.txt. Where the compact forward pass waits, and how often:", "")
    there = [f"- {place}: {count}" for place, count in places.most_common()]
    bench.say(*there or ["- not to be seen on a CPU"])


def _places(step) -> Counter:
    """Lines of code that wait for the device in a call."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = (w for w in caught if "synchroniz" in str(w.message))
    return Counter(f"{'/'.join(w.filename.split('/')[-3:])}:{w.lineno}" for w in waits)
