// From what a user names to the folder that is meant.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/scratch.h"
#include "phiq/checkpoint.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

CheckpointFolder Locate(const std::string& model) {
  return LocateCheckpoint(model, [](const Warning& w) { ADD_FAILURE() << w.text; });
}

TEST(CheckpointFolder, IsCalledLikeItsLastComponent) {
  Scratch scratch;
  scratch.Write("my-phi/config.json", "{}");
  const std::string path = (scratch.path() / "my-phi").native();
  const fs::path before = fs::current_path();
  EXPECT_EQ(Locate(path).model_name(), "my-phi");
  EXPECT_EQ(Locate(path + "/").model_name(), "my-phi");
  EXPECT_EQ(Locate(path + "/../my-phi//").model_name(), "my-phi");
  fs::current_path(path);
  EXPECT_EQ(Locate(".").model_name(), "my-phi");
  EXPECT_EQ(Locate("./").model_name(), "my-phi");
  EXPECT_EQ(Locate("../my-phi").path(), "../my-phi");
  fs::current_path(before);
  EXPECT_EQ(Locate("/").model_name(), "model");
}

TEST(CheckpointFolder, IsFoundFromItsWeights) {
  Scratch scratch;
  const fs::path file = scratch.Write("my-phi/model.safetensors", "");
  scratch.Write("my-phi/x.safetensors.index.json", "");
  EXPECT_EQ(Locate(file.native()).path(), file.parent_path());
  EXPECT_EQ(Locate(file.native()).model_name(), "my-phi");
  EXPECT_EQ(Locate(file.native()).weights_file(), "model.safetensors");
  EXPECT_EQ(Locate((file.parent_path() / "x.safetensors.index.json").native()).weights_file(),
            "x.safetensors.index.json");
  EXPECT_EQ(Locate(file.parent_path().native()).weights_file(), std::nullopt);
}

TEST(CheckpointFolder, LooksForSiblingsBesideALinkNotItsTarget) {
  Scratch scratch;
  scratch.Write("blobs/abc", "{\"x\":1}");
  scratch.Write("snapshot/model.safetensors", "");
  fs::create_symlink("../blobs/abc", scratch.path() / "snapshot/config.json");
  fs::create_symlink("../blobs/abc", scratch.path() / "snapshot/m.safetensors");
  const CheckpointFolder folder = Locate((scratch.path() / "snapshot/m.safetensors").native());
  EXPECT_EQ(folder.path(), scratch.path() / "snapshot");
  EXPECT_EQ(folder.ReadFile("config.json", 100), "{\"x\":1}");
}

TEST(CheckpointFolder, ReadsSideFilesWithinTheirLimit) {
  Scratch scratch;
  scratch.Write("a.json", "12345");
  const CheckpointFolder folder = Locate(scratch.path().native());
  EXPECT_EQ(folder.ReadFile("a.json", 5), "12345");
  EXPECT_EQ(FailureOf([&] { folder.ReadFile("a.json", 4); }).code, 3);
  EXPECT_EQ(folder.ReadFile("b.json", 5), std::nullopt);
  fs::create_directory(scratch.path() / "c.json");
  EXPECT_EQ(FailureOf([&] { folder.ReadFile("c.json", 5); }).code, 4);
  fs::create_symlink("gone", scratch.path() / "d.json");
  EXPECT_TRUE(folder.Has("d.json"));
  EXPECT_EQ(FailureOf([&] { folder.ReadFile("d.json", 5); }).text,
            folder.PathOf("d.json").native() +
                ": dangling link to gone (interrupted download? download the model again)");
}

TEST(CheckpointFolder, CallsSideFilesThatWereNotDownloadedByTheirName) {
  Scratch scratch;
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
  const std::string folder = scratch.path().native() + "/";
  for (const auto& [name, content, message] : {
           std::tuple("tokenizer.json", pointer,
                      "is a Git LFS pointer: the file itself was not downloaded (run `git lfs "
                      "pull`, or download this file again)"),
           std::tuple("chat_template.jinja", pointer,
                      "is a Git LFS pointer: the file itself was not downloaded (run `git lfs "
                      "pull`, or download this file again)"),
           std::tuple("config.json", std::string("\n<!DOCTYPE HTML><html></html>"),
                      "is an HTML page (download this file again)"),
           std::tuple("tokenizer.model", std::string("../../blobs/0123456789abcdef"),
                      "is the text of a link into a hub cache: the copy has lost its links (copy "
                      "the folder again with its links followed (`cp -rL`), or download this file "
                      "again)"),
           std::tuple("vocab.json", std::string("\x1f\x8b\x08"),
                      "is a gzip archive (unpack it, or download this file again)"),
           std::tuple("generation_config.json", std::string(100, '\0'),
                      "is filled with zeros: an interrupted download (download this file again)"),
           std::tuple("added_tokens.json", std::string(),
                      "is empty (interrupted download? download this file again)"),
       }) {
    scratch.Write(name, content);
    const Failure failure =
        FailureOf([&] { Locate(scratch.path().native()).ReadFile(name, 1000); });
    EXPECT_EQ(failure.code, 3);
    EXPECT_EQ(failure.text, folder + name + ": " + message);
  }
  scratch.Write("chat_template.jinja", "<|user|>{{ x }}");
  EXPECT_EQ(Locate(scratch.path().native()).ReadFile("chat_template.jinja", 1000),
            "<|user|>{{ x }}");
}

TEST(CheckpointFolder, RefusesAPickle) {
  Scratch scratch;
  const fs::path file = scratch.Write("pytorch_model.bin", "");
  const Failure failure = FailureOf([&] { Locate(file.native()); });
  EXPECT_EQ(failure.code, 6);
  EXPECT_EQ(failure.text, file.native() +
                              ": is a pickle, and loading one can run code (convert to "
                              "safetensors: save_pretrained(..., safe_serialization=True))");
}

TEST(CheckpointFolder, RefusesWhatIsNotThere) {
  for (const std::string path : {"/no/such/folder", "", "no such folder", "a/b/c"}) {
    const Failure failure = FailureOf([&] { Locate(path); });
    EXPECT_EQ(failure.code, 4);
    EXPECT_THAT(failure.text, testing::EndsWith("No such file or directory")) << path;
  }
  Scratch scratch;
  const fs::path file = scratch.Write("config.json", "{}");
  EXPECT_EQ(FailureOf([&] { Locate(file.native()); }).text,
            fmt::format("{}: is a file beside a model's weights (give its folder, {})",
                        file.native(), scratch.path().native()));
  const fs::path text = scratch.Write("README.md", "# Phi");
  EXPECT_EQ(FailureOf([&] { Locate(text.native()); }).text,
            text.native() + ": is not a folder, a *.safetensors or a *.safetensors.index.json");
}

TEST(CheckpointFolder, WarnsOfPartialDownloads) {
  Scratch scratch;
  scratch.Write("model.safetensors", "");
  scratch.Write("x.safetensors.part", "");
  scratch.Write("abc.incomplete", "");
  Warnings warnings;
  LocateCheckpoint(scratch.path().native(), warnings.fn());
  const std::string folder = scratch.path().native();
  EXPECT_THAT(
      warnings.texts,
      ElementsAre(
          folder + "/abc.incomplete: lies beside the checkpoint (interrupted download?)",
          folder + "/x.safetensors.part: lies beside the checkpoint (interrupted download?)"));
}

}  // namespace
}  // namespace phiq
