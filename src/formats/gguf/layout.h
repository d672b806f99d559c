// Where every byte of a GGUF output goes, decided before the first is written.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf/value.h"
#include "formats/layout.h"
#include "phiq/model.h"
#include "phiq/plan.h"

namespace phiq::gguf {

inline constexpr std::uint64_t kAlignment = 32;  // GGUF's default; the key is never written

// The --type name that a general.file_type stands for; nullopt when phiq does not write it.
std::optional<std::string> FindFileType(std::uint32_t code);

// What there is to say of the tokenizer: a name that is not the model's own, and where llama.cpp
// gives other ids than the model's tokenizer does.
std::vector<Decision> TokenizerDecisions(const Model& model);

// The ends of text of config.json and generation_config.json at which llama.cpp does not stop.
std::vector<Decision> StopDecisions(const SideFiles& files, const Model& model);

// The metadata of the output (docs/formats/gguf.md): model, rope, tokenizer, chat template.
// `extra`  records that the caller adds (e.g. "phiq.nan_policy").
// Throws   kBadData: the tokenizer does not fit a GGUF vocabulary. Warns: pads, dropped tokens.
Metadata BuildMetadata(const Model& model, const Plan& plan, const Metadata& extra,
                       const WarningFn& warn);

// Orders the tensors (outside the blocks alphabetically, then by block, then alphabetically, as
// llama-quantize does), places them, and encodes the header of each file.
// `split_max_bytes`: a new part starts when a part's padded tensor data would pass it.
// One file, or the parts of a split output, of which the first holds the metadata.
// Throws   kUsage: a single tensor is larger than split_max_bytes.
OutputLayout MakeLayout(const Plan& plan, const Metadata& metadata,
                        std::optional<std::uint64_t> split_max_bytes);

}  // namespace phiq::gguf
