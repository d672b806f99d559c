// README.md of an output, which model hubs show.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/side_files.h"
#include "phiq/checkpoint.h"
#include "phiq/plan.h"
#include "phiq/tokenizer.h"

namespace phiq {

inline constexpr std::string_view kModelCard = "README.md";

// What a card says besides the license of the checkpoint's.
struct ModelCard {
  std::string_view library;  // that runs the folder: "mlx"
  std::string_view tag;      // by which hubs find it
  std::string base_model;    // "organisation/name"; "": not known
  std::string text;          // below the front matter
};
SideFile MakeModelCard(const SideFiles& source, const ModelCard& card);

// As CompareBytes. Of two cards only one may name the base model: a plain copy of a repository does
// not say where it comes from.
std::vector<std::string> CompareWithCard(const SideFile& expected, std::string_view found);

// A decision of a plan whose folder gets no additional_chat_templates: chat templates of which all
// but the first stand there.
void NoteLostTemplates(const SideFiles& source, const Tokenizer& tokenizer, Plan& plan);

}  // namespace phiq
