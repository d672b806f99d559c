// The commit of a run: everything is made durable under hidden names first; what remains are
// renames, written down in the journal wherever there is more than one.
#include "io/outputs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <deque>
#include <system_error>
#include <utility>

#include "io/journal.h"
#include "io/output_impl.h"
#include "io/renames.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {

namespace fs = std::filesystem;

namespace {

bool IsSameFolder(const fs::path& a, const fs::path& b) {
  std::error_code ignored;
  return a == b || fs::equivalent(a, b, ignored);
}

}  // namespace

struct Outputs::Impl {
  struct Group {
    std::vector<OutputFile*> files = {};
    std::size_t root = 0;
    StagedFolder* folder = nullptr;
  };

  // Those in one folder, or a pipe or device.
  struct Part {
    Part(const fs::path& path, const OutputOptions& options_in,
         std::optional<Resumable> resumable_in)
        : folder(ParentFolder(path)),
          is_stream(IsStream(path)),
          options(options_in),
          resumable(std::move(resumable_in)) {}
    ~Part() { RemoveScratch(); }
    Part(const Part&) = delete;
    Part& operator=(const Part&) = delete;

    // Of a resumable run it says so from the first on.
    void StartJournal();
    const std::vector<StagedName>* Kept(std::vector<StagedName> JournalContent::*names) const {
      const bool is_kept = resumable && resumable->kept != nullptr;
      return is_kept ? &(resumable->kept->content.*names) : nullptr;
    }
    void RemoveScratch();

    bool has_names() const { return !groups.empty() && !is_stream; }
    void Finish();
    std::vector<Rename> ListRenames() const;
    // Durable, where fsync is wanted: a later run makes these renames.
    void Note(const std::vector<Rename>& list);
    void LeaveToLaterRun();
    void ForgetTemporaries();
    void SyncNames(const Renames& renames, const fs::path& shown);
    int dir_fd() const;

    fs::path folder;
    bool is_stream;
    OutputOptions options;
    std::optional<Resumable> resumable;
    std::unique_ptr<Journal> journal;  // outlives the temporaries
    struct Scratch {
      std::string name;
      std::unique_ptr<ScratchFile> file;
    };
    std::vector<Scratch> scratch;
    std::deque<OutputFile> files;  // deques: references stay valid
    std::deque<StagedFolder> folders;
    std::vector<Group> groups;
  };

  Impl(const OutputOptions& options_in, std::optional<Resumable> resumable_in)
      : options(options_in), resumable(std::move(resumable_in)) {}

  // Where an output of this name belongs.
  Part& PartOf(const fs::path& path) {
    if (!IsStream(path))
      for (const std::unique_ptr<Part>& part : parts)
        if (!part->is_stream && IsSameFolder(part->folder, ParentFolder(path))) return *part;
    return *parts.emplace_back(
        std::make_unique<Part>(path, options, parts.empty() ? resumable : std::nullopt));
  }

  OutputOptions options;
  std::optional<Resumable> resumable;
  std::vector<std::unique_ptr<Part>> parts;
};

int Outputs::Impl::Part::dir_fd() const {
  const Group& first = groups.front();
  return first.folder != nullptr ? first.folder->impl_->parent.get()
                                 : first.files.front()->impl_->folder.get();
}

std::vector<Rename> Outputs::Impl::Part::ListRenames() const {
  std::vector<Rename> first, renames, roots;
  for (const Group& group : groups) {
    if (group.folder != nullptr) {
      roots.push_back(group.folder->impl_->ToRename());
      continue;
    }
    for (std::size_t i = 0; i < group.files.size(); ++i) {
      Rename rename = group.files[i]->impl_->ToRename();
      if (i != group.root) {
        renames.push_back(std::move(rename));
        continue;
      }
      if (group.files.size() > 1) {
        // A root never stands beside files of another run.
        rename.sync_first = true;
        if (rename.old_inode != 0) {
          first.push_back(
              {.to = rename.to, .aside = NewTemporaryName(rename.to), .inode = rename.old_inode});
        }
      }
      roots.push_back(std::move(rename));
    }
  }
  if (!first.empty() && !renames.empty()) renames.front().sync_first = true;
  first.insert(first.end(), renames.begin(), renames.end());
  first.insert(first.end(), roots.begin(), roots.end());
  return first;
}

void Outputs::Impl::Part::Finish() {
  for (OutputFile& file : files) file.impl_->Finish();
  for (StagedFolder& one : folders) one.impl_->Finish();
}

void Outputs::Impl::Part::ForgetTemporaries() {
  for (OutputFile& file : files) file.impl_->ForgetTemporary();
  for (StagedFolder& one : folders) one.impl_->ForgetTemporary();
}

void Outputs::Impl::Part::Note(const std::vector<Rename>& list) {
  if (!journal) journal = std::make_unique<Journal>(folder);
  journal->Note(list, options.fsync);
  // A second signal leaves what a later run shall finish.
  for (OutputFile& file : files) file.impl_->file.registered.Reset();
  for (StagedFolder& one : folders) one.impl_->Unregister();
}

void Outputs::Impl::Part::LeaveToLaterRun() {
  journal->Keep();
  ForgetTemporaries();
}

void Outputs::Impl::Part::SyncNames(const Renames& renames, const fs::path& shown) {
  try {
    if (options.fsync) SyncFolder(dir_fd(), shown, "renamed but not known durable");
  } catch (Error& error) {
    const std::vector<std::string> old = renames.OldNames();
    if (old.empty()) throw;
    throw std::move(error).Hint(
        fmt::format("what was replaced is kept, until the next run there, as {}",
                    Escape(fmt::format("{}", fmt::join(old, ", ")))));
  }
}

void Outputs::Impl::Part::StartJournal() {
  if (journal) return;
  if (resumable && resumable->kept != nullptr) {
    journal = std::make_unique<Journal>(folder, *resumable->kept);
    return;
  }
  journal = std::make_unique<Journal>(folder);
  if (resumable) journal->NoteRun(resumable->fingerprint, options.fsync);
}

void Outputs::Impl::Part::RemoveScratch() {
  for (const Scratch& one : scratch) ::unlinkat(journal->folder().get(), one.name.c_str(), 0);
  scratch.clear();
}

Outputs::Outputs(const OutputOptions& options, std::optional<Resumable> resumable)
    : impl_(std::make_unique<Impl>(options, std::move(resumable))) {}
Outputs::~Outputs() = default;

ScratchFile& Outputs::AddScratch(const fs::path& beside, std::string_view name,
                                 std::uint64_t size_bytes) {
  const fs::path folder = ParentFolder(beside);
  Impl::Part& part = impl_->PartOf(beside);
  part.StartJournal();
  const fs::path path = folder / name;
  LockedFolder locked(folder);
  std::optional<Temporary> adopted = AdoptKept(locked, path, part.Kept(&JournalContent::files));
  const bool is_new = !adopted;
  Temporary made = adopted ? std::move(*adopted) : locked.Create(path, RegisteredName::Kind::kFile);
  made.registered.Reset();
  part.scratch.push_back({made.name, nullptr});
  if (is_new)
    part.journal->NoteFile({made.name, InodeAt(locked.fd(), made.name)}, part.options.fsync);
  part.scratch.back().file = std::make_unique<ScratchFile>(path, std::move(made.fd), size_bytes);
  return *part.scratch.back().file;
}

void Outputs::NoteStage(std::string_view stage) {
  Impl::Part& part = *impl_->parts.front();
  for (const OutputFile& file : part.files) file.impl_->Sync();
  for (const StagedFolder& folder : part.folders)
    for (const OutputFile& file : folder.impl_->files) file.impl_->Sync();
  if (part.options.fsync)
    for (const Impl::Part::Scratch& scratch : part.scratch) scratch.file->Sync();
  part.journal->NoteStage(stage, part.options.fsync);
}

void Outputs::Keep() {
  if (impl_->parts.empty() || !impl_->parts.front()->journal) return;
  Impl::Part& part = *impl_->parts.front();
  part.LeaveToLaterRun();
  part.scratch.clear();
}

std::vector<OutputFile*> Outputs::AddFiles(const std::vector<NewFile>& files, std::size_t root) {
  Impl::Part& part = impl_->PartOf(files.front().path);
  std::vector<OutputFile*> added;
  for (const NewFile& file : files) {
    OutputOptions options = part.options;
    options.force = options.force || file.replaces;
    if (!part.resumable) {
      added.push_back(&part.files.emplace_back(file.path, file.size_bytes, options));
      continue;
    }
    CheckOutputPath(file.path, options);
    auto made = std::make_unique<OutputFile::Impl>(file.path, file.size_bytes, options);
    made->OpenTemporary(part.Kept(&JournalContent::files));
    part.StartJournal();
    part.journal->NoteFile({made->file.name, InodeAt(made->folder.get(), made->file.name)},
                           options.fsync);
    made->file.registered.Reset();  // a second signal must not remove it
    made->Reserve();
    added.push_back(&part.files.emplace_back(OutputFile(std::move(made))));
  }
  part.groups.push_back({.files = added, .root = root});
  return added;
}

StagedFolder& Outputs::AddFolder(const fs::path& path, std::vector<std::string> owned) {
  auto made = std::make_unique<StagedFolder::Impl>(path.has_filename() ? path : path.parent_path(),
                                                   std::move(owned), impl_->options);
  Impl::Part& part = impl_->PartOf(made->path);
  made->Open(part.Kept(&JournalContent::folders));
  if (part.resumable) {
    made->is_kept = true;  // from now on
    made->Unregister();
  }
  StagedFolder& folder = part.folders.emplace_back(std::move(made));
  StagedFolder::Impl& staged = *folder.impl_;
  part.StartJournal();
  const std::uint64_t inode = InodeAt(staged.parent.get(), staged.staging.name);
  part.journal->Note({staged.staging.name, inode}, part.options.fsync);
  part.groups.push_back({.folder = &folder});
  return folder;
}

void Outputs::Commit() {
  std::vector<Impl::Part*> parts;
  std::vector<std::vector<Rename>> lists;
  std::size_t n_renames = 0;
  for (const std::unique_ptr<Impl::Part>& part : impl_->parts) part->Finish();
  // From here on every byte is on disk; what remains are renames.
  for (const std::unique_ptr<Impl::Part>& part : impl_->parts) {
    if (!part->has_names()) continue;
    parts.push_back(part.get());
    n_renames += lists.emplace_back(part->ListRenames()).size();
  }
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (n_renames > 1 || parts[i]->journal) parts[i]->Note(lists[i]);
  std::deque<Renames> all;
  std::vector<fs::path> shown;
  try {
    for (std::size_t i = 0; i < parts.size(); ++i) {
      shown.push_back(parts[i]->folder / lists[i].back().to);
      all.emplace_back(parts[i]->dir_fd(), parts[i]->folder, std::move(lists[i]),
                       parts[i]->options.fsync, /*is_last=*/i + 1 == parts.size());
      all.back().Make();
    }
  } catch (const Error& failure) {
    std::vector<std::string> stand;
    for (std::size_t i = all.size(); i-- > 0;) {
      const std::vector<std::string> names = all[i].Undo();
      stand.insert(stand.end(), names.begin(), names.end());
      if (!names.empty()) parts[i]->LeaveToLaterRun();
    }
    if (stand.empty()) throw;
    throw Error(ErrorCode::kOutput,
                fmt::format("{}; what was renamed before could not be taken back: {}",
                            failure.what(), fmt::join(stand, ", ")))
        .Hint(
            "the other outputs wait, complete, under hidden names: the next phiq that writes "
            "into this folder gives them theirs");
  }
  for (Impl::Part* part : parts) {
    part->ForgetTemporaries();
    part->RemoveScratch();
  }
  std::optional<Error> failure;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    try {
      parts[i]->SyncNames(all[i], shown[i]);
      all[i].RemoveOld();
    } catch (const Error& error) {
      if (parts[i]->journal) parts[i]->journal->Keep();  // the next run removes what was replaced
      if (!failure) failure = error;
    }
  }
  if (failure) throw *failure;
}

}  // namespace phiq
