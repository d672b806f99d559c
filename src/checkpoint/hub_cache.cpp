// Finds snapshots: <root>/models--ORG--NAME/snapshots/<commit>, the commit from refs/main.
#include "checkpoint/hub_cache.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <system_error>
#include <vector>

#include "base/ascii.h"
#include "checkpoint/open_input.h"
#include "io/input_file.h"
#include "phiq/text.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRepositoryPrefix = "models--";
constexpr std::size_t kMaxPartCharacters = 96;  // huggingface_hub's rule
constexpr std::uint64_t kMaxRefBytes = 4096;    // 40 hex digits and white space

// The repositories that phiq is for, for whoever leaves out the organisation.
constexpr std::array<std::string_view, 10> kKnownRepositories = {
    "microsoft/Phi-3-mini-4k-instruct",   "microsoft/Phi-3-mini-128k-instruct",
    "microsoft/Phi-3-medium-4k-instruct", "microsoft/Phi-3-medium-128k-instruct",
    "microsoft/Phi-3.5-mini-instruct",    "microsoft/phi-4",
    "microsoft/Phi-4-mini-instruct",      "microsoft/Phi-4-mini-reasoning",
    "microsoft/Phi-4-reasoning",          "microsoft/Phi-4-reasoning-plus"};

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool IsWordCharacter(char c) { return IsAsciiAlphanumeric(c) || c == '_'; }

// "~/x" and "$NAME", "${NAME}" as Python's expanduser and expandvars read them; an unknown
// variable stays as it is written.
std::string Expand(const std::string& text) {
  std::string out;
  std::size_t i = 0;
  if (text == "~" || text.starts_with("~/")) {
    out = Variable("HOME");
    if (out.empty()) return "";
    i = 1;
  }
  while (i < text.size()) {
    const bool braced = text.compare(i, 2, "${") == 0;
    const std::size_t begin = i + (braced ? 2 : 1);
    std::size_t end = begin;
    if (text[i] == '$') {
      while (end < text.size() && IsWordCharacter(text[end])) ++end;
    }
    const std::string name = text.substr(std::min(begin, text.size()), end - begin);
    const bool closed = !braced || (end < text.size() && text[end] == '}');
    if (text[i] != '$' || name.empty() || !closed || std::getenv(name.c_str()) == nullptr) {
      out += text[i++];
      continue;
    }
    out += Variable(name.c_str());
    i = end + (braced ? 1 : 0);
  }
  return out;
}

bool IsRepositoryPart(std::string_view part) {
  const auto edge = [](char c) { return c == '-' || c == '.'; };
  return !part.empty() && part.size() <= kMaxPartCharacters && !edge(part.front()) &&
         !edge(part.back()) && part.find("--") == part.npos && part.find("..") == part.npos &&
         std::all_of(part.begin(), part.end(),
                     [](char c) { return IsWordCharacter(c) || c == '.' || c == '-'; });
}

// Sorted; empty when there is no such folder.
std::vector<std::string> NamesIfFolder(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_directory(folder, ignored) ? NamesInFolder(folder) : std::vector<std::string>();
}

// "models--microsoft--phi-4" -> "microsoft/phi-4"; "" for other names. An id has at most one slash,
// and no "--" of its own.
std::string IdOfFolder(std::string_view folder_name) {
  if (!folder_name.starts_with(kRepositoryPrefix)) return "";
  std::string id(folder_name.substr(kRepositoryPrefix.size()));
  if (const std::size_t dashes = id.find("--"); dashes != id.npos) id.replace(dashes, 2, "/");
  return id;
}

// The last component of a path, whether or not a slash stands at its end.
std::string NameOf(const fs::path& folder) {
  std::error_code ignored;
  const fs::path whole = fs::absolute(folder, ignored).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().native();
}

// Whether someone may have meant the repository `id`: another case, or the name alone.
bool MayMean(std::string_view text, std::string_view id) {
  if (EqualsIgnoringCase(text, id)) return true;
  return text.find('/') == text.npos && EqualsIgnoringCase(text, id.substr(id.find('/') + 1));
}

std::string DownloadCommand(std::string_view id) {
  return fmt::format("download it with `hf download {}`", id);
}

// What to do about an id that is neither a path nor in the cache.
std::string HintOf(const std::string& id, const fs::path& root) {
  std::vector<std::string> cached;
  for (const std::string& name : NamesIfFolder(root)) {
    if (MayMean(id, IdOfFolder(name))) cached.push_back(Escape(IdOfFolder(name)));
  }
  if (!cached.empty()) return fmt::format("the cache has {}", fmt::join(cached, ", "));
  if (const std::size_t slash = id.find('/'); slash != id.npos) {
    const std::string nearest =
        DidYouMean(id.substr(slash + 1), NamesIfFolder(id.substr(0, slash)));
    return nearest.empty() ? DownloadCommand(id) : Escape(nearest);
  }
  for (const std::string_view known : kKnownRepositories) {
    if (MayMean(id, known))
      return fmt::format("{} is on the hub: {}", known, DownloadCommand(known));
  }
  const std::string nearest = DidYouMean(id, NamesIfFolder("."));
  return nearest.empty() ? "a repository is named organisation/name" : Escape(nearest);
}

bool Has40HexDigits(std::string_view text) {
  return text.size() == 40 && std::ranges::all_of(text, [](char c) {
           return IsAsciiDigit(c) || (c >= 'a' && c <= 'f');
         });
}

std::string ReadCommit(const fs::path& ref) {
  std::string commit = ReadWholeFile(ref, kMaxRefBytes);
  const auto is_space = [](unsigned char c) { return std::isspace(c) != 0; };
  commit.erase(std::find_if_not(commit.rbegin(), commit.rend(), is_space).base(), commit.end());
  commit.erase(commit.begin(), std::find_if_not(commit.begin(), commit.end(), is_space));
  // It becomes part of a path, so nothing but a commit id may pass.
  if (!Has40HexDigits(commit)) {
    throw Error(ErrorCode::kBadData,
                fmt::format("'{}' is not a commit id of 40 hex digits", Escape(commit)))
        .In(ref.native());
  }
  return commit;
}

}  // namespace

bool IsRepositoryId(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == text.npos) return IsRepositoryPart(text);
  return IsRepositoryPart(text.substr(0, slash)) && IsRepositoryPart(text.substr(slash + 1));
}

fs::path HubCacheRoot() {
  // Never a folder below the one that happens to be the working folder: without a home there is no
  // cache.
  const auto below = [](const std::string& expanded, const char* rest) {
    return expanded.empty() ? fs::path() : fs::path(expanded) / rest;
  };
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const std::string value = Variable(name); !value.empty()) return Expand(value);
  }
  if (const std::string home = Variable("HF_HOME"); !home.empty())
    return below(Expand(home), "hub");
  if (const std::string cache = Variable("XDG_CACHE_HOME"); !cache.empty())
    return below(Expand(cache), "huggingface/hub");
  return below(Variable("HOME"), ".cache/huggingface/hub");
}

std::optional<RepositoryName> ParseRepositoryName(std::string_view text) {
  for (const std::string_view host : {"huggingface.co/", "hf.co/"}) {
    for (const std::string_view scheme : {"https://", "http://", ""}) {
      const std::string address = std::string(scheme) + std::string(host);
      if (text.starts_with(address)) text.remove_prefix(address.size());
    }
  }
  constexpr std::string_view kHubScheme = "hf://";
  if (text.starts_with(kHubScheme)) text.remove_prefix(kHubScheme.size());
  RepositoryName name;
  if (const std::size_t tree = text.find("/tree/"); tree != text.npos) {
    name.revision = text.substr(tree + 6);
    text = text.substr(0, tree);
  } else if (const std::size_t file = std::min(text.find("/blob/"), text.find("/resolve/"));
             file != text.npos) {  // the page of one of its files
    const std::string_view rest = text.substr(text.find('/', file + 1) + 1);
    name.revision = rest.substr(0, rest.find('/'));
    text = text.substr(0, file);
  } else if (const std::size_t at = text.find('@'); at != text.npos) {
    name.revision = text.substr(at + 1);
    text = text.substr(0, at);
  }
  while (text.ends_with('/')) text.remove_suffix(1);
  while (name.revision.ends_with('/')) name.revision.pop_back();
  name.id = text;
  const bool leads_elsewhere = name.revision.starts_with('/') ||
                               name.revision.find("..") != name.revision.npos ||
                               name.revision.find('\0') != name.revision.npos;
  if (!IsRepositoryId(name.id) || leads_elsewhere) return std::nullopt;
  if (name.revision == "main") name.revision.clear();
  return name;
}

bool IsRepositoryFolder(const fs::path& folder) {
  std::error_code ignored;
  return !IdOfFolder(NameOf(folder)).empty() && fs::is_directory(folder / "snapshots", ignored);
}

fs::path SnapshotIn(const fs::path& repository, const std::string& revision,
                    const std::string& shown, const WarningFn& warn) {
  const std::string download =
      fmt::format("{}{}", DownloadCommand(IdOfFolder(NameOf(repository))),
                  revision.empty() ? "" : fmt::format(", revision {}", Escape(revision)));
  const std::vector<std::string> snapshots = NamesIfFolder(repository / "snapshots");
  if (Has40HexDigits(revision) && std::ranges::find(snapshots, revision) != snapshots.end())
    return repository / "snapshots" / revision;
  std::error_code ignored;
  const fs::path ref = repository / "refs" / (revision.empty() ? "main" : revision);
  if (fs::exists(ref, ignored)) {
    fs::path snapshot = repository / "snapshots" / ReadCommit(ref);
    if (fs::is_directory(snapshot, ignored)) return snapshot;
    throw Error(ErrorCode::kInput,
                fmt::format("refs/{} names a snapshot that is not there: no {}",
                            Escape(ref.lexically_relative(repository / "refs").native()),
                            Escape(snapshot.native())))
        .In(shown)
        .Hint(download);
  }
  const std::vector<std::string> refs = NamesIfFolder(repository / "refs");
  if (refs.empty() && revision.empty() && snapshots.size() == 1) {
    warn({ErrorCode::kBadData,
          fmt::format("{}: no refs/main in the hub cache, using the only snapshot, {}",
                      Escape(shown), Escape(snapshots[0]))});
    return repository / "snapshots" / snapshots[0];
  }
  if (snapshots.empty()) {
    throw Error(ErrorCode::kInput, fmt::format("no {} and no snapshot", Escape(ref.native())))
        .In(shown)
        .Hint(download);
  }
  throw Error(ErrorCode::kInput,
              fmt::format("no {}; revisions there: {}; snapshots: {}", Escape(ref.native()),
                          refs.empty() ? "none" : Escape(fmt::format("{}", fmt::join(refs, ", "))),
                          Escape(fmt::format("{}", fmt::join(snapshots, ", ")))))
      .In(shown)
      .Hint(fmt::format("give a snapshot's folder, such as {}, or {}",
                        Escape((repository / "snapshots" / snapshots.front()).native()), download));
}

fs::path FindSnapshot(const std::string& id, const std::string& revision, const WarningFn& warn) {
  std::string folder_name(kRepositoryPrefix);
  for (const char c : id) folder_name += c == '/' ? std::string("--") : std::string(1, c);
  const fs::path root = HubCacheRoot();
  if (root.empty()) {
    throw Error(ErrorCode::kInput,
                "no such file or folder, and HOME does not say where a hub cache is")
        .In(id);
  }
  const fs::path repository = root / folder_name;
  std::error_code ignored;
  if (!fs::is_directory(repository, ignored)) {
    throw Error(ErrorCode::kInput,
                fmt::format("no such file or folder, and not in the hub cache: no {}",
                            Escape(repository.native())))
        .In(id)
        .Hint(HintOf(id, root));
  }
  return SnapshotIn(repository, revision, id, warn);
}

std::string RepositoryIdOf(const fs::path& folder) {
  const fs::path snapshots = folder.parent_path();
  const std::string repository = snapshots.parent_path().filename().native();
  return snapshots.filename() == "snapshots" ? IdOfFolder(repository) : "";
}

}  // namespace phiq
