// The line of the list.
#pragma once

#include "formats/format.h"

namespace phiq::openvino {

extern const Format kFormat;

}  // namespace phiq::openvino
