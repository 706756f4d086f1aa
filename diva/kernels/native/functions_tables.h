// Constants of functions_rounded.h, all made from their exact values with 200 bits.
#pragma once

namespace dk {
namespace {

// Polynomials (interpolation at Chebyshev points): (exp f - 1 - f) / f^2 for |f| <= ln 2 / 32; the same of 2^f, |f| <= 1/32,
// (2^f - 1 - f ln 2) / f^2; (log(1 + r) - r) / r^2 for |r| < 0.0305, times 1 / ln b; (sin g / g - 1) / z and
// ((cos g - 1) / z + 1/2) / z for z = g^2 <= (pi / 4)^2. Ascending powers.
DK_TABLE double exp_tail[6] = {
    0x1.0000000000001p-1, 0x1.5555555555555p-3, 0x1.55555554e92aep-5, 0x1.1111111100f07p-7, 0x1.6c17ed7316287p-10,
    0x1.a01ac9db70bc7p-13};
DK_TABLE double exp2_tail[6] = {
    0x1.ebfbdff82c590p-3, 0x1.c6b08d704a0bfp-5, 0x1.3b2ab6fb4111fp-7, 0x1.5d87fe7891d18p-10, 0x1.430a1d1d4b5a4p-13,
    0x1.ffccf291d3f73p-17};
DK_TABLE double log_tail[8] = {
    -0x1.ffffffffffff5p-2, 0x1.5555555555548p-2, -0x1.0000000058ba8p-2, 0x1.9999999a4c60fp-3, -0x1.555546c921c1ep-3,
    0x1.24923b3b0d45cp-3, -0x1.0061ad8f0b64cp-3, 0x1.c7d1e3361aac4p-4};
DK_TABLE double log2_tail[8] = {
    -0x1.71547652b82f6p-1, 0x1.ec709dc3a03ebp-2, -0x1.7154765338320p-2, 0x1.2776c50f7ab61p-2, -0x1.ec7088c6bd2e0p-3,
    0x1.a6174e957e25ep-3, -0x1.71e161b8001bap-3, 0x1.48cdf606c90e7p-3};
DK_TABLE double log10_tail[8] = {
    -0x1.bcb7b1526e505p-3, 0x1.287a7636f4354p-3, -0x1.bcb7b15308741p-4, 0x1.63c62775c0568p-4, -0x1.287a69942755dp-4,
    0x1.fc3f8dea12198p-5, -0x1.bd61606d3fc85p-5, 0x1.8beb8c6b12d79p-5};
DK_TABLE double sin_tail[7] = {
    -0x1.5555555555555p-3, 0x1.1111111111110p-7, -0x1.a01a01a01992fp-13, 0x1.71de3a545f836p-19,
    -0x1.ae645410e937bp-26, 0x1.61217d9252c03p-33, -0x1.ab16f5caa198ap-41};
DK_TABLE double cos_tail[7] = {
    0x1.5555555555555p-5, -0x1.6c16c16c16c16p-10, 0x1.a01a01a019d06p-16, -0x1.27e4fb77125c5p-22,
    0x1.1eed8deac3dfep-29, -0x1.9394b8bd50ae1p-37, 0x1.ab779550c8d9bp-45};

// 2^(k / 16), rounded, and what is left of it
DK_TABLE double power_high[16] = {
    0x1.0000000000000p+0, 0x1.0b5586cf9890fp+0, 0x1.172b83c7d517bp+0, 0x1.2387a6e756238p+0, 0x1.306fe0a31b715p+0,
    0x1.3dea64c123422p+0, 0x1.4bfdad5362a27p+0, 0x1.5ab07dd485429p+0, 0x1.6a09e667f3bcdp+0, 0x1.7a11473eb0187p+0,
    0x1.8ace5422aa0dbp+0, 0x1.9c49182a3f090p+0, 0x1.ae89f995ad3adp+0, 0x1.c199bdd85529cp+0, 0x1.d5818dcfba487p+0,
    0x1.ea4afa2a490dap+0};
DK_TABLE double power_low[16] = {
    0x0.0p+0, 0x1.8a62e4adc610bp-54, -0x1.19041b9d78a76p-55, 0x1.9b07eb6c70573p-54, 0x1.6f46ad23182e4p-55,
    0x1.ada0911f09ebcp-55, 0x1.d4397afec42e2p-56, 0x1.6324c054647adp-54, -0x1.bdd3413b26456p-54,
    -0x1.41577ee04992fp-55, 0x1.6e9f156864b27p-54, 0x1.c7c46b071f2bep-56, 0x1.7a1cd345dcc81p-54,
    0x1.11065895048ddp-55, 0x1.2ed02d75b3707p-55, -0x1.e9c23179c2893p-54};
// 1 / c with few bits, c near the middle of [0.6992.., 1.3984..) cut into 16 by the leading bits; one holds 1: c = 1
DK_TABLE double inverse[16] = {
    0x1.6600000000000p+0, 0x1.5700000000000p+0, 0x1.4940000000000p+0, 0x1.3c80000000000p+0, 0x1.30c0000000000p+0,
    0x1.2600000000000p+0, 0x1.1bc0000000000p+0, 0x1.1240000000000p+0, 0x1.0940000000000p+0, 0x1.0000000000000p+0,
    0x1.e580000000000p-1, 0x1.ca80000000000p-1, 0x1.b200000000000p-1, 0x1.9c00000000000p-1, 0x1.8880000000000p-1,
    0x1.7680000000000p-1};
// log(c) to the bases e, 2 and 10: 42 bits after the point, and what is left
DK_TABLE double ln_high[16] = {
    -0x1.5767717456000p-2, -0x1.2b9303ab8a000p-2, -0x1.01ade3913a000p-2, -0x1.b2797ee464000p-3,
    -0x1.64fee88260000p-3, -0x1.1b72ad52f6000p-3, -0x1.a58b60c2b4000p-4, -0x1.1a0fba1bf8000p-4,
    -0x1.22c71bcea8000p-5, 0x0.0p+0, 0x1.b35dd9b588000p-5, 0x1.c40d6425a4000p-4, 0x1.527e5e4a1c000p-3,
    0x1.bd087383be000p-3, 0x1.102ac0a35d000p-2, 0x1.403d086cea000p-2};
DK_TABLE double ln_low[16] = {
    0x1.64ead9524d7cap-44, 0x1.6db12d6bfb0a5p-45, 0x1.08930ccdc1521p-46, 0x1.be88a906d00a9p-44,
    0x1.da40d759dded6p-46, -0x1.e80a41811a396p-45, 0x1.cdc735c5c9f2ap-44, -0x1.4a3fcc319d6dcp-45,
    -0x1.d2818f87f888fp-48, 0x0.0p+0, 0x1.d5674d6cf558ep-44, 0x1.cb1121d1930ddp-44, -0x1.4e60b8d4b411dp-44,
    -0x1.d4bc4595412b6p-45, -0x1.f1fbddfdfd686p-45, 0x1.e6ef574487308p-44};
DK_TABLE double log2_high[16] = {
    -0x1.ef6d67328e000p-2, -0x1.b031befe06000p-2, -0x1.73c0a92c6a000p-2, -0x1.39683c4a9d000p-2,
    -0x1.01849ae488000p-2, -0x1.98edd077e8000p-3, -0x1.30147d856c000p-3, -0x1.96edbac9c8000p-4,
    -0x1.a380eecfc0000p-5, 0x0.0p+0, 0x1.3a0cf56a08000p-4, 0x1.46163957b0000p-3, 0x1.e857d3d362000p-3,
    0x1.4106017c3f000p-2, 0x1.88a76b7e55000p-2, 0x1.ce01a12f5e000p-2};
DK_TABLE double log2_low[16] = {
    -0x1.103e8f00d41c8p-45, -0x1.0d199805b0aecp-44, -0x1.317bdec192554p-45, 0x1.664deafdbfed5p-46,
    -0x1.fa1f67cf926cbp-45, 0x1.e41fa0a62e6aep-44, 0x1.72c3855fc4925p-45, 0x1.a9d6325d9ee57p-44,
    0x1.f38b72c9d8e90p-44, 0x0.0p+0, -0x1.3b55bcb161bacp-44, -0x1.fa4a9eb6b8621p-44, -0x1.9308437e74325p-44,
    -0x1.aeb8cb1ac05cdp-45, -0x1.8e9b57298d22fp-44, -0x1.cbb828084fcb1p-44};
DK_TABLE double log10_high[16] = {
    -0x1.2a46e8ca7c000p-3, -0x1.0434f7fb20000p-3, -0x1.bfa27c79c0000p-4, -0x1.79613cefdc000p-4,
    -0x1.36152260c4000p-4, -0x1.ec6647eb58000p-5, -0x1.6e261b3878000p-5, -0x1.e9fdab6640000p-6,
    -0x1.f921f9f8a0000p-7, 0x0.0p+0, 0x1.7a27959ed0000p-6, 0x1.88a5cc3158000p-5, 0x1.2603072a24000p-4,
    0x1.828cfed29c000p-4, 0x1.d8cd71303c000p-4, 0x1.1627d2079e000p-3};
DK_TABLE double log10_low[16] = {
    0x1.759aa8c8a1f1cp-45, 0x1.9f28002957cb8p-44, -0x1.80b25f46af414p-46, -0x1.f5738f0e65429p-50,
    0x1.3ab48dd72f07dp-44, -0x1.0108fa031185ap-46, -0x1.379694bbd6602p-45, 0x1.00132ce78de0fp-47,
    0x1.064c50b439604p-44, 0x0.0p+0, -0x1.b958b4b043d19p-44, 0x1.e533f553fef1cp-45, 0x1.f822d060ec876p-44,
    -0x1.deb4fc182476ep-44, -0x1.6d13f77d50b7ap-47, 0x1.cc5153fe60877p-45};

// The first 320 bits of 2 / pi.
DK_TABLE unsigned long long two_over_pi[5] = {0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041,
    0xfe5163abdebbc561, 0xb7246e3a424dd2e0};

}  // namespace
}  // namespace dk
