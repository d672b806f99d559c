// What the model room's tests share: a folder to fill with side files, and errors as values.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "phiq/checkpoint.h"
#include "phiq/error.h"
#include "testing/header_only_checkpoint.h"
#include "testing/test_data.h"

namespace phiq::testing {

inline std::filesystem::path TestData() { return kTestData; }

// A copy of a tiny checkpoint's side files, without its weights, to be broken.
class SideFiles {
 public:
  explicit SideFiles(const std::string& base) {
    for (const auto& entry : std::filesystem::directory_iterator(TestData() / base)) {
      if (entry.path().extension() == ".safetensors" || entry.is_directory()) continue;
      std::filesystem::copy_file(entry.path(), path(entry.path().filename().string()));
    }
    WriteSparseSafetensors(path("model.safetensors"), Phi3Tensors(Json("config.json")));
  }

  std::filesystem::path path(const std::string& name) const { return temp_.path() / name; }
  nlohmann::json Json(const std::string& name) const { return ReadTestJson(path(name)); }
  void Write(const std::string& name, const nlohmann::json& json) const {
    WriteTestFile(path(name), json.dump());
  }
  void WriteText(const std::string& name, const std::string& text) const {
    WriteTestFile(path(name), text);
  }
  void Remove(const std::string& name) const { std::filesystem::remove(path(name)); }
  // Changes one JSON file in place.
  void Edit(const std::string& name, const std::function<void(nlohmann::json&)>& edit) const {
    nlohmann::json json = Json(name);
    edit(json);
    Write(name, json);
  }

  CheckpointFolder Folder() const { return LocateCheckpoint(temp_.path().string(), nullptr); }

 private:
  TempFolder temp_;
};

// Warnings as they come.
class WarningList {
 public:
  WarningFn fn() {
    return [this](const Warning& warning) { texts_.push_back(warning.text); };
  }
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  std::vector<std::string> texts_;
};

// Runs `work` and expects it to be refused with `code` and a message that holds `needle`.
inline void ExpectError(ErrorCode code, std::string_view needle,
                        const std::function<void()>& work) {
  try {
    work();
    ADD_FAILURE() << "nothing was refused, expected: " << needle;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(std::string(error.what()), ::testing::HasSubstr(std::string(needle)));
  }
}

}  // namespace phiq::testing
