// The local Hugging Face cache, by its variables, refs and snapshots.
#include "checkpoint/hub_cache.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>

#include "checkpoint/scratch.h"
#include "phiq/checkpoint.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";

// The cache's variables, set for one test and put back after it.
class HubCache : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name :
         {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"}) {
      const char* value = std::getenv(name);
      saved_[name] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
      ::unsetenv(name);
    }
    ::setenv("HF_HUB_CACHE", root().c_str(), 1);
  }
  void TearDown() override {
    for (const auto& [name, value] : saved_) {
      if (value) {
        ::setenv(name.c_str(), value->c_str(), 1);
      } else {
        ::unsetenv(name.c_str());
      }
    }
  }
  std::string root() const { return scratch_.path().native(); }

  Scratch scratch_;
  Warnings warnings_;

 private:
  std::map<std::string, std::optional<std::string>> saved_;
};

TEST_F(HubCache, KnowsRepositoryIds) {
  for (const std::string id : {"microsoft/Phi-3.5-mini-instruct", "gpt2", "a_b/c.d", "a/b"}) {
    EXPECT_TRUE(IsRepositoryId(id)) << id;
  }
  for (const std::string id : {"", "/", "a/", "/b", "a/b/c", "a--b/c", "a/..b", "a/b..c", "-a/b",
                               "a/b-", "a/.b", "a b/c", "a/b\n", "../x", ".", "a/b\\c"}) {
    EXPECT_FALSE(IsRepositoryId(id)) << id;
  }
  EXPECT_TRUE(IsRepositoryId("a/" + std::string(96, 'x')));
  EXPECT_FALSE(IsRepositoryId("a/" + std::string(97, 'x')));
}

TEST_F(HubCache, TakesTheFirstVariableThatIsSet) {
  ::unsetenv("HF_HUB_CACHE");
  ::setenv("HOME", "/h", 1);
  EXPECT_EQ(HubCacheRoot(), "/h/.cache/huggingface/hub");
  ::setenv("XDG_CACHE_HOME", "/xdg", 1);
  EXPECT_EQ(HubCacheRoot(), "/xdg/huggingface/hub");
  ::setenv("HF_HOME", "~/hf", 1);
  EXPECT_EQ(HubCacheRoot(), "/h/hf/hub");
  ::setenv("HUGGINGFACE_HUB_CACHE", "$XDG_CACHE_HOME/${HOME}/$NOT_SET_ANYWHERE/$", 1);
  EXPECT_EQ(HubCacheRoot(), "/xdg//h/$NOT_SET_ANYWHERE/$");
  ::setenv("HF_HUB_CACHE", "/first", 1);
  EXPECT_EQ(HubCacheRoot(), "/first");
  ::setenv("HF_HUB_CACHE", "", 1);
  EXPECT_EQ(HubCacheRoot(), "/xdg//h/$NOT_SET_ANYWHERE/$");
}

TEST_F(HubCache, FollowsRefsMain) {
  const std::string repository = "models--microsoft--Phi-3.5-mini-instruct";
  scratch_.Write(repository + "/refs/main", std::string(kCommit) + "\n");
  scratch_.Write(repository + "/snapshots/" + kCommit + "/config.json", "{}");
  scratch_.Write(repository + "/snapshots/ffff/config.json", "[]");
  const CheckpointFolder folder =
      LocateCheckpoint("microsoft/Phi-3.5-mini-instruct", warnings_.fn());
  EXPECT_EQ(folder.path(), fs::path(root()) / repository / "snapshots" / kCommit);
  EXPECT_EQ(folder.model_name(), "Phi-3.5-mini-instruct");
  EXPECT_EQ(folder.ReadFile("config.json", 10), "{}");
  EXPECT_THAT(warnings_.texts, ElementsAre());
}

TEST_F(HubCache, NamesASnapshotGivenAsAFolderAfterItsRepository) {
  scratch_.Write(fmt::format("models--o--n-x/snapshots/{}/config.json", kCommit), "{}");
  const std::string path = fmt::format("{}/models--o--n-x/snapshots/{}/", root(), kCommit);
  EXPECT_EQ(LocateCheckpoint(path, warnings_.fn()).model_name(), "n-x");
}

TEST_F(HubCache, TellsHowToDownloadWhatIsMissing) {
  const Failure failure = FailureOf([&] { LocateCheckpoint("microsoft/phi-9", warnings_.fn()); });
  EXPECT_EQ(failure.code, 4);
  EXPECT_EQ(failure.text,
            fmt::format("microsoft/phi-9: no such file or folder, and not in the hub cache: no "
                        "{}/models--microsoft--phi-9 (download it with `hf download "
                        "microsoft/phi-9`)",
                        root()));
}

// The error line for a name without a place, less the place that was looked at.
std::string HintFor(const std::string& name) {
  const std::string text = FailureOf([&] { LocateCheckpoint(name, [](const Warning&) {}); }).text;
  return text.substr(text.find(" (") + 1);
}

TEST_F(HubCache, NamesARepositoryThatMayBeMeant) {
  EXPECT_EQ(HintFor("phi-4"),
            "(microsoft/phi-4 is on the hub: download it with `hf download microsoft/phi-4`)");
  EXPECT_EQ(HintFor("PHI-3.5-MINI-INSTRUCT"),
            "(microsoft/Phi-3.5-mini-instruct is on the hub: download it with `hf download "
            "microsoft/Phi-3.5-mini-instruct`)");
  EXPECT_EQ(HintFor("nofile"), "(a repository is named organisation/name)");
  scratch_.Write("models--microsoft--phi-4/refs/main", kCommit);
  scratch_.Write("models--me--Phi-4/refs/main", kCommit);
  EXPECT_EQ(HintFor("phi-4"), "(the cache has me/Phi-4, microsoft/phi-4)");
  EXPECT_EQ(HintFor("microsoft/Phi-4"), "(the cache has microsoft/phi-4)");
}

TEST_F(HubCache, LooksInNoFolderOfTheWorkingFolder) {
  ::unsetenv("HF_HUB_CACHE");
  EXPECT_EQ(HubCacheRoot(), fs::path());
  EXPECT_EQ(FailureOf([&] { LocateCheckpoint("o/n", warnings_.fn()); }).text,
            "o/n: no such file or folder, and HOME does not say where a hub cache is");
  ::setenv("HF_HOME", "~/hf", 1);
  EXPECT_EQ(HubCacheRoot(), fs::path());
}

TEST_F(HubCache, RefusesARefThatIsNoCommit) {
  scratch_.Write("models--o--n/refs/main", "../../../etc");
  const Failure failure = FailureOf([&] { FindSnapshot("o/n", {}, warnings_.fn()); });
  EXPECT_EQ(failure.code, 3);
  EXPECT_EQ(failure.text,
            fmt::format("{}/models--o--n/refs/main: '../../../etc' is not a commit id of 40 "
                        "hex digits",
                        root()));
}

TEST_F(HubCache, MissesTheSnapshotThatRefsMainNames) {
  scratch_.Write("models--o--n/refs/main", kCommit);
  const Failure failure = FailureOf([&] { FindSnapshot("o/n", {}, warnings_.fn()); });
  EXPECT_EQ(failure.code, 4);
  EXPECT_EQ(failure.text,
            fmt::format("o/n: refs/main names a snapshot that is not there: no "
                        "{}/models--o--n/snapshots/{} (download it with `hf download o/n`)",
                        root(), kCommit));
}

TEST_F(HubCache, UsesAnOnlySnapshotWithoutRefs) {
  scratch_.Write("models--o--n/snapshots/abc/config.json", "{}");
  EXPECT_EQ(FindSnapshot("o/n", {}, warnings_.fn()),
            fs::path(root()) / "models--o--n/snapshots/abc");
  EXPECT_THAT(warnings_.texts,
              ElementsAre("o/n: no refs/main in the hub cache, using the only snapshot, abc"));
  scratch_.Write("models--o--n/snapshots/def/config.json", "{}");
  EXPECT_EQ(FailureOf([&] { FindSnapshot("o/n", {}, warnings_.fn()); }).code, 4);
}

TEST_F(HubCache, TakesARepositoryAsPeopleWriteIt) {
  scratch_.Write("models--o--n/refs/main", kCommit);
  scratch_.Write("models--o--n/refs/v1", "1123456789abcdef0123456789abcdef01234567");
  scratch_.Write(fmt::format("models--o--n/snapshots/{}/config.json", kCommit), "{}");
  scratch_.Write("models--o--n/snapshots/1123456789abcdef0123456789abcdef01234567/config.json", "");
  const fs::path snapshots = fs::path(root()) / "models--o--n/snapshots";
  const std::string repository = root() + "/models--o--n";
  for (const std::string& text :
       {std::string("o/n"), std::string("o/n/"), std::string("o/n@main"),
        std::string("https://huggingface.co/o/n"),
        std::string("https://huggingface.co/o/n/tree/main"), std::string("hf.co/o/n/"),
        std::string("hf://o/n"), repository, repository + "/"}) {
    const CheckpointFolder folder = LocateCheckpoint(text, warnings_.fn());
    EXPECT_EQ(folder.path().lexically_normal(), snapshots / kCommit) << text;
    EXPECT_EQ(folder.repository_id(), "o/n") << text;
  }
  for (const std::string text :
       {"o/n@v1", "o/n@1123456789abcdef0123456789abcdef01234567",
        "https://huggingface.co/o/n/tree/v1", "https://huggingface.co/o/n/blob/v1/config.json",
        "https://huggingface.co/o/n/resolve/v1/model.safetensors"}) {
    EXPECT_EQ(LocateCheckpoint(text, warnings_.fn()).path(),
              snapshots / "1123456789abcdef0123456789abcdef01234567");
  }
  EXPECT_THAT(warnings_.texts, ElementsAre());
  for (const std::string text : {"o/n@../../x", "o/n@/etc", "o/n/x", "https://example.com/o/n"})
    EXPECT_THAT(FailureOf([&] { LocateCheckpoint(text, warnings_.fn()); }).text,
                testing::EndsWith("No such file or directory"));
}

TEST_F(HubCache, ListsSnapshotsWithoutRefs) {
  scratch_.Write("models--o--n/snapshots/abc/config.json", "{}");
  scratch_.Write("models--o--n/snapshots/def/config.json", "{}");
  EXPECT_EQ(FailureOf([&] { FindSnapshot("o/n", {}, warnings_.fn()); }).text,
            fmt::format("o/n: no {0}/refs/main; revisions there: none; snapshots: abc, def (give a "
                        "snapshot's folder, such as {0}/snapshots/abc, or download it with `hf "
                        "download o/n`)",
                        root() + "/models--o--n"));
}

TEST_F(HubCache, ListsOtherRevisions) {
  scratch_.Write("models--o--n/refs/v1", kCommit);
  scratch_.Write("models--o--n/refs/dev", kCommit);
  scratch_.Write("models--o--n/snapshots/abc/config.json", "{}");
  EXPECT_THAT(FailureOf([&] { FindSnapshot("o/n", {}, warnings_.fn()); }).text,
              HasSubstr("revisions there: dev, v1"));
}

TEST_F(HubCache, NamesTheContentOfADanglingLink) {
  scratch_.Write("models--o--n/refs/main", kCommit);
  scratch_.Write("models--o--n/blobs/e7a9.incomplete", "");
  const fs::path snapshot = fs::path(root()) / "models--o--n/snapshots" / kCommit;
  fs::create_directories(snapshot);
  fs::create_symlink("../../blobs/e7a9", snapshot / "model.safetensors");
  const CheckpointFolder folder = LocateCheckpoint("o/n", warnings_.fn());
  const Failure failure = FailureOf([&] { OpenCheckpoint(folder, warnings_.fn()); });
  EXPECT_EQ(failure.code, 4);
  EXPECT_EQ(
      failure.text,
      fmt::format("{}/model.safetensors: dangling link to ../../blobs/e7a9 (interrupted download? "
                  "e7a9.incomplete is there; download the model again)",
                  snapshot.native()));
}

TEST_F(HubCache, GivesWayToAFolderOfTheSameName) {
  const fs::path before = fs::current_path();
  scratch_.Write("here/o/n/config.json", "{}");
  fs::current_path(scratch_.path() / "here");
  EXPECT_EQ(LocateCheckpoint("o/n", warnings_.fn()).path(), "o/n");
  fs::current_path(before);
}

}  // namespace
}  // namespace phiq
