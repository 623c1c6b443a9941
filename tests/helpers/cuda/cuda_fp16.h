// Half precision for kernels that are compiled for the CPU; stands in for CUDA's own header.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

struct __half {
    std::uint16_t bits;
};

inline float __half2float(__half half) {
    const int exponent = half.bits >> 10 & 31, fraction = half.bits & 1023;
    float size;
    if (exponent == 31) size = fraction ? NAN : INFINITY;
    else if (exponent == 0) size = std::ldexp(static_cast<float>(fraction), -24);
    else size = std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
    return half.bits & 0x8000 ? -size : size;
}

// To the nearest, to even in the middle.
inline __half __float2half_rn(float value) {
    const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
    const float size = std::fabs(value);
    std::uint16_t bits;
    if (std::isnan(value)) return {0x7fff};
    if (size >= 65520.0f) bits = 0x7c00;
    else if (size < std::ldexp(1.0f, -14))
        bits = static_cast<std::uint16_t>(std::nearbyint(std::ldexp(size, 24)));
    else {
        int exponent;
        const float fraction = std::frexp(size, &exponent);  // 0.5 to 1
        // May round up to 2048, which carries into the exponent as it should.
        const auto rounded = static_cast<int>(std::nearbyint(std::ldexp(fraction, 11)));
        bits = static_cast<std::uint16_t>(((exponent + 13) << 10) + rounded);
    }
    return {static_cast<std::uint16_t>(sign | bits)};
}
