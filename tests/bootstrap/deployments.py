"""Deployments as the report's tests want them: with everything in them that a report can show."""

from __future__ import annotations

from dataclasses import replace

from bootstrap.report import Deployment, File, Flow, Section, Timing, Upstream

FAST, SLOW = "fast.example", "slow.example"

BOTH = {FAST: 150_000_000, SLOW: 50_000_000}
TORCH = "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl"
MEASURED = "2026-01-02T03:04:06+00:00"

INSTALL = Section(
    "install",
    "2026-01-02T03:04:05.123+00:00",
    40.0,
    (
        Timing("start", "start i2v-setup", 0.0, 0.5),
        Timing("detect", "detect the machine", 0.5, 0.5),
        Timing("choose", "choose a mirror", 1.0, 2.0, 3_000_000, "Fast", {FAST: 2_000_000, SLOW: 1_000_000}),
        Timing("packages", "install packages", 3.0, 17.0, 200_000_000, None, BOTH),
        Timing("packages.resolve", "find 55 wheels", 3.0, 1.0),
        Timing("packages.unpack", "unpack 55 packages", 4.0, 12.0),
        Timing("packages.download", "download 55 files", 4.1, 10.0, 200_000_000, None, BOTH, 3),
        Timing("packages.verify", "verify 55 files", 4.2, 10.1, busy=1.5),
        Timing("packages.link", "link 55 packages", 16.0, 4.0),
        Timing("weights", "fetch svd", 20.0, 8.0, 80_000_000, None, {FAST: 80_000_000}),
        Timing("weights.download", "download 13 files", 20.0, 8.0, 80_000_000, None, {FAST: 80_000_000}, 0),
        Timing("checks", "verify", 28.0, 11.5),
        Timing("checks.imports", "import torch and diffusers", 28.1, 9.0),
        Timing("checks.imports.bytecode", "compile to bytecode", 28.2, 8.8, busy=6.0),
        Timing("current", "make current", 39.5, 0.1),
    ),
    {"model": "svd", "torch": "cu130", "mirror": "Fast"},
    (
        File("packages", TORCH, 4.1, 4.3, 14.0, 14.2, 150_000_000, {FAST: 1}),
        File("packages", "numpy-2.4.0-cp311-abi3-any.whl", 4.1, 4.4, 9.0, 9.1, 50_000_000, {SLOW: 1}, 3),
    ),
    (
        Flow("packages", FAST, 4.25, 0.25, (1_000_000, 4_000_000, 4_000_000, 2_000_000)),
        Flow("packages", SLOW, 4.5, 0.25, (500_000, 0, 500_000)),
    ),
    (
        Upstream("packages", "PyPI", 1_000_000.0, 0.1, MEASURED, "a part over 4 connections", 2_000_000),
        Upstream("weights", "Hugging Face", 4_000_000.0, 0.2, MEASURED, "a part over 2 connections"),
    ),
)

GENERATE = Section(
    "generate",
    "2026-01-02T03:10:00.000+00:00",
    12.0,
    (Timing("imports", "import torch and diffusers", 0.2, 3.0), Timing("denoise", "denoise", 3.2, 8.8)),
    {"model": "svd"},
)

FIRST = Deployment("20260102T030405-000001", (INSTALL, GENERATE))
SECOND = Deployment(
    "20260103T030405-000002",
    (
        replace(
            INSTALL,
            seconds=30.0,
            timings=(
                Timing("choose", "choose a mirror", 0.0, 1.0),
                Timing("plan", "make the plan", 1.0, 1.0),
                Timing("packages", "install packages", 2.0, 28.0),
                Timing("packages.download", "download 55 files", 2.0, 20.0, 200_000_000, None, {SLOW: 200_000_000}, 0),
            ),
            facts={"model": "svd", "torch": "cu126"},
        ),
    ),
)
