// The commit of a run: everything is made durable under hidden names first; what remains are
// renames, written down in the journal wherever there is more than one.
#include "io/outputs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "io/journal.h"
#include "io/output_impl.h"
#include "io/renames.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {

namespace fs = std::filesystem;

struct Outputs::Impl {
  struct Group {
    std::vector<OutputFile*> files = {};
    std::size_t root = 0;
    StagedFolder* folder = nullptr;
  };

  Impl(const OutputOptions& options_in, std::optional<Resumable> resumable_in)
      : options(options_in), resumable(std::move(resumable_in)) {}
  ~Impl() { RemoveScratch(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // In the folder of all outputs. Of a resumable run it says so from the first on.
  void StartJournal(const fs::path& folder);
  const std::vector<StagedName>* Kept(std::vector<StagedName> JournalContent::*names) const {
    const bool is_kept = resumable && resumable->kept != nullptr;
    return is_kept ? &(resumable->kept->content.*names) : nullptr;
  }
  void RemoveScratch();

  std::vector<Rename> ListRenames() const;
  void MakeRenames(std::vector<Rename> list);
  void ForgetTemporaries();
  // The folder of all outputs, open, and its name.
  std::pair<int, fs::path> Folder() const;
  void CheckFolder(const fs::path& path) const;

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

std::pair<int, fs::path> Outputs::Impl::Folder() const {
  const Group& first = groups.front();
  if (first.folder != nullptr)
    return {first.folder->impl_->parent.get(), ParentFolder(first.folder->impl_->path)};
  const OutputFile::Impl& file = *first.files.front()->impl_;
  return {file.folder.get(), ParentFolder(file.path)};
}

void Outputs::Impl::CheckFolder(const fs::path& path) const {
  if (!groups.empty() && ParentFolder(path) != Folder().second)
    throw Error(ErrorCode::kInternal, "outputs of one run in two folders").In(path.native());
}

std::vector<Rename> Outputs::Impl::ListRenames() const {
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

void Outputs::Impl::ForgetTemporaries() {
  for (OutputFile& file : files) file.impl_->ForgetTemporary();
  for (StagedFolder& folder : folders) folder.impl_->ForgetTemporary();
}

void Outputs::Impl::MakeRenames(std::vector<Rename> list) {
  const auto [dir_fd, folder] = Folder();
  if (list.size() > 1 && !journal) journal = std::make_unique<Journal>(folder);
  if (journal) {
    journal->Note(list, options.fsync);
    // A second signal leaves what a later run shall finish.
    for (OutputFile& file : files) file.impl_->file.registered.Reset();
    for (StagedFolder& one : folders) one.impl_->Unregister();
  }
  const fs::path shown = folder / list.back().to;
  Renames renames(dir_fd, folder, std::move(list), options.fsync);
  try {
    renames.Make();
  } catch (const Error&) {
    if (!renames.undone()) {
      journal->Keep();
      ForgetTemporaries();
    }
    throw;
  }
  ForgetTemporaries();
  RemoveScratch();
  try {
    if (options.fsync) SyncFolder(dir_fd, shown, "renamed but not known durable");
  } catch (Error& error) {
    if (journal) journal->Keep();
    const std::vector<std::string> old = renames.OldNames();
    if (old.empty()) throw;
    throw std::move(error).Hint(
        fmt::format("what was replaced is kept, until the next run there, as {}",
                    Escape(fmt::format("{}", fmt::join(old, ", ")))));
  }
  renames.RemoveOld();
}

void Outputs::Impl::StartJournal(const fs::path& folder) {
  if (journal) return;
  if (resumable && resumable->kept != nullptr) {
    journal = std::make_unique<Journal>(folder, *resumable->kept);
    return;
  }
  journal = std::make_unique<Journal>(folder);
  if (resumable) journal->NoteRun(resumable->fingerprint, options.fsync);
}

void Outputs::Impl::RemoveScratch() {
  for (const Scratch& one : scratch) ::unlinkat(journal->folder().get(), one.name.c_str(), 0);
  scratch.clear();
}

Outputs::Outputs(const OutputOptions& options, std::optional<Resumable> resumable)
    : impl_(std::make_unique<Impl>(options, std::move(resumable))) {}
Outputs::~Outputs() = default;

ScratchFile& Outputs::AddScratch(const fs::path& beside, std::string_view name,
                                 std::uint64_t size_bytes) {
  const fs::path folder = ParentFolder(beside);
  impl_->CheckFolder(beside);
  impl_->StartJournal(folder);
  const fs::path path = folder / name;
  LockedFolder locked(folder);
  std::optional<Temporary> adopted = AdoptKept(locked, path, impl_->Kept(&JournalContent::files));
  const bool is_new = !adopted;
  Temporary made = adopted ? std::move(*adopted) : locked.Create(path, RegisteredName::Kind::kFile);
  made.registered.Reset();
  impl_->scratch.push_back({made.name, nullptr});
  if (is_new)
    impl_->journal->NoteFile({made.name, InodeAt(locked.fd(), made.name)}, impl_->options.fsync);
  impl_->scratch.back().file = std::make_unique<ScratchFile>(path, std::move(made.fd), size_bytes);
  return *impl_->scratch.back().file;
}

void Outputs::NoteStage(std::string_view stage) {
  for (const OutputFile& file : impl_->files) file.impl_->Sync();
  for (const StagedFolder& folder : impl_->folders)
    for (const OutputFile& file : folder.impl_->files) file.impl_->Sync();
  if (impl_->options.fsync)
    for (const Impl::Scratch& scratch : impl_->scratch) scratch.file->Sync();
  impl_->journal->NoteStage(stage, impl_->options.fsync);
}

void Outputs::Keep() {
  if (!impl_->journal) return;
  impl_->journal->Keep();
  impl_->ForgetTemporaries();
  impl_->scratch.clear();
}

std::vector<OutputFile*> Outputs::AddFiles(const std::vector<NewFile>& files, std::size_t root) {
  std::vector<OutputFile*> added;
  for (const NewFile& file : files) {
    impl_->CheckFolder(file.path);
    if (!impl_->resumable) {
      added.push_back(&impl_->files.emplace_back(file.path, file.size_bytes, impl_->options));
      continue;
    }
    CheckOutputPath(file.path, impl_->options);
    auto made = std::make_unique<OutputFile::Impl>(file.path, file.size_bytes, impl_->options);
    made->OpenTemporary(impl_->Kept(&JournalContent::files));
    impl_->StartJournal(ParentFolder(file.path));
    impl_->journal->NoteFile({made->file.name, InodeAt(made->folder.get(), made->file.name)},
                             impl_->options.fsync);
    made->file.registered.Reset();  // a second signal must not remove it
    made->Reserve();
    added.push_back(&impl_->files.emplace_back(OutputFile(std::move(made))));
  }
  impl_->groups.push_back({.files = added, .root = root});
  return added;
}

StagedFolder& Outputs::AddFolder(const fs::path& path, std::vector<std::string> owned) {
  auto made = std::make_unique<StagedFolder::Impl>(path.has_filename() ? path : path.parent_path(),
                                                   std::move(owned), impl_->options);
  impl_->CheckFolder(made->path);
  made->Open(impl_->Kept(&JournalContent::folders));
  if (impl_->resumable) {
    made->is_kept = true;  // from now on
    made->Unregister();
  }
  StagedFolder& folder = impl_->folders.emplace_back(std::move(made));
  StagedFolder::Impl& staged = *folder.impl_;
  impl_->StartJournal(ParentFolder(staged.path));
  const std::uint64_t inode = InodeAt(staged.parent.get(), staged.staging.name);
  impl_->journal->Note({staged.staging.name, inode}, impl_->options.fsync);
  impl_->groups.push_back({.folder = &folder});
  return folder;
}

void Outputs::Commit() {
  for (OutputFile& file : impl_->files) file.impl_->Finish();
  for (StagedFolder& folder : impl_->folders) folder.impl_->Finish();
  if (impl_->groups.empty() || (impl_->folders.empty() && impl_->files.front().is_stream())) return;
  // From here on every byte is on disk; what remains are renames.
  impl_->MakeRenames(impl_->ListRenames());
}

}  // namespace phiq
