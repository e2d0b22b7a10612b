"""Compute capabilities by product name, for where the driver does not say: drivers before 510, and /proc.

The numbers are those of https://developer.nvidia.com/cuda-gpus. The first row that fits counts.
"""

from __future__ import annotations

import re

Capability = tuple[int, int]
_ROWS: tuple[tuple[str, Capability], ...] = (
    (r"\bG?B300\b", (10, 3)),
    (r"\bG?B[12]00\b", (10, 0)),
    (r"\bGB10\b", (12, 1)),
    (r"\bRTX 50[5-9]0|\bRTX PRO \d+ .*Blackwell|\bRTX PRO (2|4|45|5|6)\d00\b", (12, 0)),
    (r"\bG?H(100|200|800|20)\b", (9, 0)),
    (r"\bRTX 40[5-9]0|\bL(4|40S?|20|2)\b|\bRTX \d000 .*Ada", (8, 9)),
    (r"\bA(100X?|800|30X?)\b", (8, 0)),
    (r"\bRTX 30[5-9]0|\bA(2|10G?|16|40)\b|\bRTX A\d{3,4}\b", (8, 6)),
    (r"\bOrin\b", (8, 7)),
    (r"\bRTX 20[5-8]0|\bGTX 16[3-6]0|\bT(4G?|10|[46]00|1000|1200)\b|\bTITAN RTX|\bQuadro RTX|\bMX[45]50\b", (7, 5)),
    (r"\bV100S?\b|\bTITAN V\b|\bGV100\b", (7, 0)),
    (r"\bXavier\b", (7, 2)),
    (r"\bP100\b|\bGP100\b", (6, 0)),
    (r"\bGTX? 10[1-8]0|\bP(4|6|40|[4-6]00|620|1000|[2-6][02]00)\b|\bTITAN Xp?\b|\bMX[123][135]0\b", (6, 1)),
    (r"\bGTX 9[5-8]0|\bM(4|6|10|40|60|[2-6]000)\b|\bTITAN X\b", (5, 2)),
    (r"\bGTX 7[45]0|\bK(620|1200|2200)\b|\bM5[02]0\b", (5, 0)),
    (r"\bK(40|80|20X?)[mct]?\b", (3, 5)),
)


def of(name: str) -> Capability | None:
    """The compute capability of the product, or None if the name is in no row."""
    return next((capability for pattern, capability in _ROWS if re.search(pattern, name)), None)
