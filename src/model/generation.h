// How a model is meant to generate: generation_config.json over config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "phiq/checkpoint.h"
#include "phiq/error.h"
#include "phiq/model.h"

namespace phiq {

struct GenerationConfig {
  std::optional<std::uint32_t> bos_token_id;
  // At least one: those of generation_config.json in its order, then those of config.json.
  std::vector<std::uint32_t> eos_token_ids;
  std::uint32_t pad_token_id = 0;  // the first end-of-text id when none is given
  // Those that generation_config.json leaves out, with the reason: config.json has them, or the
  // chat template ends turns with them, and without them generation never stops.
  std::vector<std::pair<std::uint32_t, std::string>> added_eos;
  bool file_names_eos = false;  // generation_config.json has end-of-text ids of its own
  bool do_sample = false;
  double temperature = 1.0;
  std::uint64_t top_k = 50;
  double top_p = 1.0;
};

// Throws   kBadData: a value of the wrong kind or that no runtime takes, an id outside of the
//          vocabulary, no end-of-text id at all. kInput: a file that cannot be read.
GenerationConfig ReadGenerationConfig(const SideFiles& files, const Model& model);

// The token ids of config.json and generation_config.json at which generation ends, each once.
//
// Throws   kBadData: a file that is no JSON object, an end of text that is no id of the vocabulary.
//          kInput: a file that cannot be read.
std::vector<std::uint32_t> ReadStopIds(const SideFiles& files, std::uint32_t vocab_size);

}  // namespace phiq
