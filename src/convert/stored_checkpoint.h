// A checkpoint as a model that some file stores.
#pragma once

#include <memory>

#include "convert/source.h"
#include "formats/stored_model.h"

namespace phiq {

// `source` needs no tokenizer: it is read when somebody asks for it.
std::unique_ptr<StoredModel> MakeStoredModel(Source source);

}  // namespace phiq
