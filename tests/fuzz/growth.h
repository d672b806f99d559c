// Time in proportion to the input, for inputs made to grow in one thing only.
#pragma once

namespace phiq::fuzz {

// Runs a target on an input and on one of four times its size, for each of a list of shapes.
// Fails   where the larger one takes more than eight times the work: in proportion it is 4, and 16
//         where the time grows as the square.
void CheckGrowth();

}  // namespace phiq::fuzz
