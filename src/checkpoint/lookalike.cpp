// A file that was not downloaded is best called by its name: its content, read as JSON or as a
// header, gives messages about byte 0 that help nobody, and as a template it would even be taken.
#include "checkpoint/lookalike.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "base/ascii.h"
#include "phiq/error.h"

namespace phiq {
namespace {

constexpr Lookalike kPointer = {"version https://git-lfs",
                                "a Git LFS pointer: the file itself was not downloaded",
                                "run `git lfs pull`, or download this file again"};
// Copying a hub cache through an archive or a share that knows no links leaves their texts.
constexpr Lookalike kLinkText = {
    "../", "the text of a link into a hub cache: the copy has lost its links",
    "copy the folder again with its links followed (`cp -rL`), or download this file again"};

// What the hub answers in place of a file, and tools without a look at the status save under its
// name.
constexpr std::string_view kHubError = "the hub's error message in place of the file";
constexpr std::string_view kHubErrorHint =
    "is the file in the repository, and may you read it? then download it again";

// In place of any file. Read as a header length, each of these prefixes and those of kForWeights is
// far above the limit, so that no sound file begins with one.
constexpr Lookalike kForAll[] = {
    kPointer,
    kLinkText,
    {"Entry not found", kHubError, kHubErrorHint},
    {"Repository not found", kHubError, kHubErrorHint},
    {"Invalid username or password", kHubError, kHubErrorHint},
    {"Access to model ", kHubError, kHubErrorHint},
    {R"({"error":)", kHubError, kHubErrorHint},
    {"\x1f\x8b", "a gzip archive", "unpack it, or download this file again"},
};

constexpr Lookalike kForWeights[] = {
    {"<", "an HTML or XML page, not weights", kDownloadAgain},
    {"PK", "a zip archive (a PyTorch pickle?), not safetensors",
     "download the safetensors file again, or convert to safetensors"},
    {"\x80", "a Python pickle, not safetensors",
     "download the safetensors file again, or convert to safetensors"},
    {"GGUF", "a GGUF file, not safetensors", "phiq starts from the original checkpoint"},
};

// No JSON, template or protobuf begins with one of these.
constexpr std::string_view kUtf16 = "UTF-16 text";
constexpr std::string_view kUtf16Hint = "save it as UTF-8";
constexpr Lookalike kPages[] = {
    {"<!doctype html", "an HTML page", kDownloadAgain},
    {"<html", "an HTML page", kDownloadAgain},
};
constexpr Lookalike kForSideFiles[] = {
    kPages[0],
    kPages[1],
    {"<?xml", "an XML page", kDownloadAgain},
    {std::string_view("\0\0", 2), "filled with zeros: an interrupted download", kDownloadAgain},
    // With the mark that Windows' tools write, and JSON without it.
    {"\xff\xfe", kUtf16, kUtf16Hint},
    {"\xfe\xff", kUtf16, kUtf16Hint},
    {std::string_view("{\0", 2), kUtf16, kUtf16Hint},
    {std::string_view("\0{", 2), kUtf16, kUtf16Hint},
    {"PK\x03\x04", "a zip archive", "unpack it, or download this file again"},
    {"<<<<<<< ", "left in a merge conflict", "resolve it, or download this file again"},
};

const Lookalike* Find(std::span<const Lookalike> special, std::string_view first_bytes) noexcept {
  first_bytes.remove_prefix(std::min(first_bytes.find_first_not_of(" \t\r\n"), first_bytes.size()));
  for (const std::span<const Lookalike> known : {std::span<const Lookalike>(kForAll), special}) {
    for (const Lookalike& lookalike : known) {
      if (EqualsIgnoringCase(first_bytes.substr(0, lookalike.prefix.size()), lookalike.prefix))
        return &lookalike;
    }
  }
  return nullptr;
}

}  // namespace

const Lookalike* FindWeightsLookalike(std::string_view first_bytes) noexcept {
  return Find(kForWeights, first_bytes);
}

const Lookalike* FindLookalike(std::string_view first_bytes) noexcept {
  return Find(kPages, first_bytes);
}

void CheckSideFile(std::string_view first_bytes, std::uint64_t size_bytes, std::string_view path) {
  // Of others nothing is read that must be there: a model card, code.
  const bool must_hold_something =
      path.ends_with(".json") || path.ends_with(".model") || path.ends_with(".jinja");
  if (size_bytes == 0 && must_hold_something) {
    throw Error(ErrorCode::kBadData, "is empty")
        .In(path)
        .Hint("interrupted download? download this file again");
  }
  if (const Lookalike* found = Find(kForSideFiles, first_bytes)) {
    throw Error(ErrorCode::kBadData, fmt::format("is {}", found->what)).In(path).Hint(found->hint);
  }
}

}  // namespace phiq
