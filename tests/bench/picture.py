"""The picture of a benchmark: one panel for each quantity, one bar for each competitor, the number on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PANELS = (
    ("tcp_mbit_per_second", "TCP, one stream", "Mbit/s", 1.0),
    ("udp_64_packets_per_second", "UDP 64 B, < 1 % lost", "thousand packets/s", 1e-3),
    ("udp_512_packets_per_second", "UDP 512 B, < 1 % lost", "thousand packets/s", 1e-3),
    ("udp_1400_packets_per_second", "UDP 1400 B, < 1 % lost", "thousand packets/s", 1e-3),
    ("handshakes_per_second", "Handshakes", "a second", 1.0),
    ("responder_cpu_ms", "Responder CPU a handshake", "ms (less is better)", 1.0),
    ("memory_pss_bytes", "Memory, 1,000 tunnels", "MiB PSS (less is better)", 1 / 2**20),
)
NARROWEST = 11.0
"""Inches that title and legend need."""
COLOURS = {
    "esplanade": "#1b6ca8",
    "esplanade, native ESP": "#7fb2d9",
    "strongSwan": "#b3541e",
    "strongSwan, chosen plugins": "#dda77b",
}


def draw(report: dict[str, Any], stem: Path) -> str:
    """Draws the medians to ``stem``.svg and .png; returns what was written, nothing without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return ""
    matplotlib.use("svg")
    from matplotlib import patches, pyplot

    medians: dict[str, dict[str, float]] = report["medians"]
    panels = [panel for panel in PANELS if any(panel[0] in values for values in medians.values())]
    if not panels:
        return ""
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(max(3.4 * columns, NARROWEST), 2.9 * rows + 0.5), squeeze=False
    )
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, (key, title, unit, scale) in zip(axes.flat, panels, strict=False):
        present = [(kind, values[key] * scale) for kind, values in medians.items() if key in values]
        bars = axis.bar(
            range(len(present)), [value for _, value in present], color=[COLOURS[kind] for kind, _ in present]
        )
        axis.bar_label(bars, labels=[_number(value) for _, value in present], fontsize=8, padding=2)
        axis.set_title(title, fontsize=10)
        axis.set_ylabel(unit, fontsize=8)
        axis.set_xticks([])
        axis.margins(y=0.15)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    handles = [patches.Rectangle((0, 0), 1, 1, color=COLOURS[kind]) for kind in medians]
    figure.legend(handles, list(medians), loc="lower center", ncols=len(medians), frameon=False, fontsize=9)
    machine, versions = report["machine"], report["versions"]
    figure.suptitle(
        f"Esplanade {versions['esplanade']} ({versions['commit']}) beside strongSwan {versions['strongswan']} "
        f"kernel-libipsec, AES-256-GCM; everything on {machine['cores']} cores of {machine['cpu']}; "
        f"medians of one run",
        fontsize=8,
    )
    figure.tight_layout(rect=(0, 0.06, 1, 0.97))
    for suffix in ("svg", "png"):
        figure.savefig(stem.with_suffix(f".{suffix}"), dpi=110)
    pyplot.close(figure)
    return f"{stem.with_suffix('.svg')} and .png"


def _number(value: float) -> str:
    """Three digits or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
