// LiteRT, the .litertlm files of LiteRT-LM.
#pragma once

#include "formats/format.h"

namespace phiq::litert {

extern const Format kFormat;

}  // namespace phiq::litert
