"""The constants of pow: tables of 2^(k/16) and of log2, and two polynomials in ascending powers, as hexadecimal numbers."""

from __future__ import annotations


def _numbers(text: str) -> list[float]:
    return [float.fromhex(number) for number in text.split()]


# 2^(k / 16)
POWERS = _numbers("""
    0x1.0000000000000p+0 0x1.0b5586cf9890fp+0 0x1.172b83c7d517bp+0 0x1.2387a6e756238p+0
    0x1.306fe0a31b715p+0 0x1.3dea64c123422p+0 0x1.4bfdad5362a27p+0 0x1.5ab07dd485429p+0
    0x1.6a09e667f3bcdp+0 0x1.7a11473eb0187p+0 0x1.8ace5422aa0dbp+0 0x1.9c49182a3f090p+0
    0x1.ae89f995ad3adp+0 0x1.c199bdd85529cp+0 0x1.d5818dcfba487p+0 0x1.ea4afa2a490dap+0
""")
# 1 / c, c near the middle of [0.6992.., 1.3984..) cut into 16; 1 for the one that holds 1
INVERSES = _numbers("""
    0x1.6600000000000p+0 0x1.5700000000000p+0 0x1.4940000000000p+0 0x1.3c80000000000p+0
    0x1.30c0000000000p+0 0x1.2600000000000p+0 0x1.1bc0000000000p+0 0x1.1240000000000p+0
    0x1.0940000000000p+0 0x1.0000000000000p+0 0x1.e580000000000p-1 0x1.ca80000000000p-1
    0x1.b200000000000p-1 0x1.9c00000000000p-1 0x1.8880000000000p-1 0x1.7680000000000p-1
""")
# log2(c), 42 bits after the point
LOG2_HIGH = _numbers("""
    -0x1.ef6d67328e000p-2 -0x1.b031befe06000p-2 -0x1.73c0a92c6a000p-2 -0x1.39683c4a9d000p-2
    -0x1.01849ae488000p-2 -0x1.98edd077e8000p-3 -0x1.30147d856c000p-3 -0x1.96edbac9c8000p-4
    -0x1.a380eecfc0000p-5 0x0.0p+0 0x1.3a0cf56a08000p-4 0x1.46163957b0000p-3 0x1.e857d3d362000p-3
    0x1.4106017c3f000p-2 0x1.88a76b7e55000p-2 0x1.ce01a12f5e000p-2
""")
# what is left of it
LOG2_LOW = _numbers("""
    -0x1.103e8f00d41c8p-45 -0x1.0d199805b0aecp-44 -0x1.317bdec192554p-45 0x1.664deafdbfed5p-46
    -0x1.fa1f67cf926cbp-45 0x1.e41fa0a62e6aep-44 0x1.72c3855fc4925p-45 0x1.a9d6325d9ee57p-44
    0x1.f38b72c9d8e90p-44 0x0.0p+0 -0x1.3b55bcb161bacp-44 -0x1.fa4a9eb6b8621p-44
    -0x1.9308437e74325p-44 -0x1.aeb8cb1ac05cdp-45 -0x1.8e9b57298d22fp-44 -0x1.cbb828084fcb1p-44
""")
# (2^f - 1 - f ln 2) / f^2, |f| <= 1/32
EXP2_TAIL = _numbers("""
    0x1.ebfbdff82c590p-3 0x1.c6b08d704a0bfp-5 0x1.3b2ab6fb4111fp-7 0x1.5d87fe7891d18p-10
    0x1.430a1d1d4b5a4p-13 0x1.ffccf291d3f73p-17
""")
# (log(1 + r) - r) / (r^2 ln 2), |r| < 0.0305
LOG2_TAIL = _numbers("""
    -0x1.71547652b82f6p-1 0x1.ec709dc3a03ebp-2 -0x1.7154765338320p-2 0x1.2776c50f7ab61p-2
    -0x1.ec7088c6bd2e0p-3 0x1.a6174e957e25ep-3 -0x1.71e161b8001bap-3 0x1.48cdf606c90e7p-3
""")
