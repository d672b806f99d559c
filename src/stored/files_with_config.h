// The small files beside a model, with a config.json of its own.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "phiq/checkpoint.h"

namespace phiq {

class FilesWithConfig final : public SideFiles {
 public:
  // `files` must outlive this. nullopt: their own config.json.
  FilesWithConfig(const SideFiles& files, std::optional<std::string> config)
      : files_(files), config_(std::move(config)) {}

  std::filesystem::path PathOf(std::string_view name) const override { return files_.PathOf(name); }
  std::optional<std::string> ReadFile(std::string_view name,
                                      std::uint64_t max_bytes) const override {
    return config_ && name == "config.json" ? config_ : files_.ReadFile(name, max_bytes);
  }
  std::vector<std::string> Names() const override { return files_.Names(); }
  std::uint64_t SizeBytes(std::string_view name) const override { return files_.SizeBytes(name); }

 private:
  const SideFiles& files_;
  const std::optional<std::string> config_;
};

}  // namespace phiq
