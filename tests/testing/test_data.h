#pragma once

namespace phiq {

// The folder tests/data. A constant of one small file rather than a macro of all: compilers' caches
// then find the objects of another clone.
extern const char kTestData[];

}  // namespace phiq
