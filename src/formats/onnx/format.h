// The line of the list.
#pragma once

#include "formats/format.h"

namespace phiq::onnx {

extern const Format kFormat;

}  // namespace phiq::onnx
