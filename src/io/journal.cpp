// The journal as text: a record a line, its words percent-encoded, so that any name fits and a
// person can read it. Records are appended whole; one that a crash has cut has no line feed.
#include "io/journal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "io/output_impl.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kResume = "resume";
constexpr std::string_view kFile = "file";
constexpr std::string_view kStage = "stage";
constexpr std::string_view kFolder = "folder";
constexpr std::string_view kRename = "rename";
constexpr std::string_view kCommit = "commit";

std::string Encode(std::string_view word) {
  std::string text;
  for (const char c : word) {
    const auto byte = static_cast<unsigned char>(c);
    text += byte <= ' ' || byte == '%' || byte == 0x7F ? fmt::format("%{:02x}", byte)
                                                       : std::string(1, c);
  }
  return text.empty() ? "%" : text;
}

std::string Decode(std::string_view text) {
  std::string word;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned byte = 0;
    if (text[i] == '%' && i + 3 <= text.size() &&
        std::from_chars(&text[i + 1], &text[i + 3], byte, 16).ptr == &text[i + 3]) {
      word += static_cast<char>(byte);
      i += 2;
    } else if (text[i] != '%') {
      word += text[i];
    }
  }
  return word;
}

std::vector<std::string> Words(std::string_view line) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin <= line.size();) {
    const std::size_t end = std::min(line.find(' ', begin), line.size());
    words.push_back(Decode(line.substr(begin, end - begin)));
    begin = end + 1;
  }
  return words;
}

std::uint64_t Number(std::string_view word) {
  std::uint64_t number = 0;
  std::from_chars(word.data(), word.data() + word.size(), number);
  return number;
}

// rename FROM TO ASIDE INODE OLD_INODE FLAGS OLD_FILE...
std::string RecordOf(const Rename& rename) {
  std::string text =
      fmt::format("{} {} {} {} {} {} {}{}{}-", kRename, Encode(rename.from), Encode(rename.to),
                  Encode(rename.aside), rename.inode, rename.old_inode, rename.is_folder ? "d" : "",
                  rename.force ? "f" : "", rename.sync_first ? "s" : "");
  for (const std::string& file : rename.old_files) text += ' ' + Encode(file);
  return text + '\n';
}

Rename RenameOf(const std::vector<std::string>& words) {
  Rename rename{.from = words[1], .to = words[2], .aside = words[3]};
  rename.inode = Number(words[4]);
  rename.old_inode = Number(words[5]);
  rename.is_folder = words[6].find('d') != std::string::npos;
  rename.force = words[6].find('f') != std::string::npos;
  rename.sync_first = words[6].find('s') != std::string::npos;
  rename.old_files.assign(words.begin() + 7, words.end());
  return rename;
}

bool IsPlainName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

bool IsSafe(const Rename& rename) {
  return (rename.from.empty() || IsTemporaryName(rename.from)) && IsPlainName(rename.to) &&
         IsTemporaryName(rename.aside) && std::ranges::all_of(rename.old_files, IsPlainName);
}

}  // namespace

JournalContent ReadJournal(std::string_view text) {
  JournalContent content;
  std::vector<Rename> renames;
  for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    const std::vector<std::string> words = Words(text.substr(0, end));
    text.remove_prefix(end + 1);
    if (words[0] == kFolder && words.size() == 3 && IsTemporaryName(words[1])) {
      content.folders.push_back({words[1], Number(words[2])});
    } else if (words[0] == kFile && words.size() == 3 && IsTemporaryName(words[1])) {
      content.files.push_back({words[1], Number(words[2])});
    } else if (words[0] == kResume && words.size() == 2) {
      content.fingerprint = words[1];
    } else if (words[0] == kStage && words.size() == 2) {
      content.stages.push_back(words[1]);
    } else if (words[0] == kRename && words.size() >= 7) {
      if (Rename rename = RenameOf(words); IsSafe(rename)) renames.push_back(std::move(rename));
    } else if (words[0] == kCommit) {
      content.renames = renames;
    }
  }
  return content;
}

Journal::Journal(const fs::path& folder) : path_(folder) {
  LockedFolder locked(folder);
  file_ = locked.CreateJournal(folder);
  folder_ = locked.Release();
}

Journal::Journal(const fs::path& folder, const KeptRun& kept) : path_(folder) {
  LockedFolder locked(folder);
  std::optional<Temporary> adopted = locked.Adopt(kept.journal.name, kept.journal.inode);
  if (!adopted)
    throw Error(ErrorCode::kTryAgain, "what an interrupted run left is gone, or another run has it")
        .In(folder.native());
  file_ = std::move(*adopted);
  folder_ = locked.Release();
  // A record that a crash has cut is ended, and ignored.
  if (::lseek(file_.fd.get(), 0, SEEK_END) < 0)
    throw SystemError(ErrorCode::kOutput, path_ / file_.name, "", errno);
  Append("\n", false);
}

Journal::~Journal() {
  if (!keep_) ::unlinkat(folder_.get(), file_.name.c_str(), 0);
  file_.registered.Reset();  // before the folder closes
}

void Journal::NoteRun(std::string_view fingerprint, bool fsync) {
  Append(fmt::format("{} {}\n", kResume, Encode(fingerprint)), fsync);
  file_.registered.Reset();  // a second signal must not remove it
}

void Journal::NoteFile(const StagedName& file, bool fsync) {
  Append(fmt::format("{} {} {}\n", kFile, Encode(file.name), file.inode), fsync);
}

void Journal::NoteStage(std::string_view stage, bool fsync) {
  Append(fmt::format("{} {}\n", kStage, Encode(stage)), fsync);
}

void Journal::Note(const StagedName& folder, bool fsync) {
  Append(fmt::format("{} {} {}\n", kFolder, Encode(folder.name), folder.inode), fsync);
}

void Journal::Note(const std::vector<Rename>& renames, bool fsync) {
  std::string text;
  for (const Rename& rename : renames) text += RecordOf(rename);
  Append(text + std::string(kCommit) + '\n', fsync);
  // From here on another process may have to finish: a second signal must not remove it.
  file_.registered.Reset();
}

void Journal::Append(std::string_view text, bool fsync) {
  while (!text.empty()) {
    const ssize_t n = Retry([&] { return ::write(file_.fd.get(), text.data(), text.size()); });
    if (n <= 0) {
      throw SystemError(ErrorCode::kOutput, path_ / file_.name, "write error",
                        n == 0 ? EIO : errno);
    }
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  if (!fsync) return;
  if (Retry([&] { return ::fsync(file_.fd.get()); }) != 0)
    throw SystemError(ErrorCode::kOutput, path_ / file_.name, "fsync failed", errno);
  SyncFolder(folder_.get(), path_, "fsync failed");
}

}  // namespace phiq
