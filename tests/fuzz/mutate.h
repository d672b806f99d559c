// Changes right inputs a little, so that they get past the first checks.
#pragma once

#include <random>
#include <string>

#include "fuzz/targets.h"

namespace phiq::fuzz {

using Random = std::mt19937;

// One to three changes.
//
// kText         numbers become other numbers, what stands in brackets or quotes goes, comes twice
// or
//               changes places; bytes, cuts and repeats.
// kBinary       integers that may be a length, a count, an offset or a type (4 or 8 bytes, little
//               endian, at most the file's size) become others; bytes, cuts and repeats.
// kSafetensors  the header as text, its length made right again; sometimes the file as it is.
void Mutate(Shape shape, Random& random, std::string& data);

}  // namespace phiq::fuzz
