// Vector kernels of GGUF's blocks, chosen for the processor at run time. Each writes the bytes of
// the plain loops (kernels/ggml_plain.h).
//
// Shapes    x: [n_blocks * Block::kSize] weights; out: n_blocks blocks.
// Requires  every weight finite.
// Threads   pure.
#pragma once

#include <cstddef>

#include "kernels/simd/weights.h"

namespace phiq::simd {

void EncodeQ4_0(const Weights& x, std::size_t n_blocks, std::byte* out);
void EncodeQ4_1(const Weights& x, std::size_t n_blocks, std::byte* out);
void EncodeQ5_0(const Weights& x, std::size_t n_blocks, std::byte* out);
void EncodeQ5_1(const Weights& x, std::size_t n_blocks, std::byte* out);
void EncodeQ8_0(const Weights& x, std::size_t n_blocks, std::byte* out);
void EncodeQ2_K(const Weights& x, std::size_t n_blocks, std::byte* out);
void EncodeQ3_K(const Weights& x, std::size_t n_blocks, std::byte* out);
void EncodeQ4_K(const Weights& x, std::size_t n_blocks, std::byte* out);
void EncodeQ5_K(const Weights& x, std::size_t n_blocks, std::byte* out);
void EncodeQ6_K(const Weights& x, std::size_t n_blocks, std::byte* out);
void EncodeIQ4_NL(const Weights& x, std::size_t n_blocks, std::byte* out);
void EncodeIQ4_XS(const Weights& x, std::size_t n_blocks, std::byte* out);

}  // namespace phiq::simd
