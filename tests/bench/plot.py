#!/usr/bin/env python3
"""plot.py PEERS.json OUT.svg: throughput against the number of distinct adapters, ours and a peer's (peers.py).

Standard library only.
"""
import json
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 64, 24, 48, 52
COLORS = {"ours": "#0b6e4f", "peer": "#b3541e"}


def ticks(most):
    """Round values from 0 to above most, at most seven."""
    step = 1
    while most / step > 6:
        step *= 2.5 if str(step)[0] == "2" else 2
    return [i * step for i in range(int(most / step) + 2)]


def svg(plot):
    points, marks = plot["points"], ticks(max(max(p["ours"], p["peer"]) for p in plot["points"]))
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(i):
        return LEFT + across * i / max(1, len(points) - 1)

    def y(rate):
        return TOP + down * (1 - rate / marks[-1])
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
           f'<text x="{LEFT}" y="20" font-size="15">Tokens a second of {plot["streams"]} streams over HTTP</text>']
    for m in marks:
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(m):.1f}" y2="{y(m):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(m) + 4:.1f}" text-anchor="end">{m:g}</text>')
    for i, p in enumerate(points):
        out.append(f'<text x="{x(i):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{p["adapters"]}</text>')
    out.append(f'<text x="{LEFT + across / 2}" y="{HEIGHT - 10}" text-anchor="middle">distinct adapters among them</text>')
    for k, (who, label) in enumerate((("ours", "oftd, OFT"), ("peer", plot["peer"]))):
        line = " ".join(f"{x(i):.1f},{y(p[who]):.1f}" for i, p in enumerate(points))
        out.append(f'<polyline points="{line}" fill="none" stroke="{COLORS[who]}" stroke-width="2.5"/>')
        out += [f'<circle cx="{x(i):.1f}" cy="{y(p[who]):.1f}" r="3.5" fill="{COLORS[who]}"/>' for i, p in enumerate(points)]
        out.append(f'<text x="{LEFT + 150 * k}" y="40" fill="{COLORS[who]}">\u25cf {escape(label)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def main():
    with open(sys.argv[1]) as f:
        plot = json.load(f)["plot"]
    if not plot:
        print("plot.py: there are no points")
        return
    with open(sys.argv[2], "w") as f:
        f.write(svg(plot))


if __name__ == "__main__":
    main()
