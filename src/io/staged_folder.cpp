// A folder that appears at its final name in one rename, with all its files.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "io/output_impl.h"
#include "io/renames.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

void RefuseForeignFiles(const fs::path& folder, const std::vector<std::string>& owned) {
  std::vector<std::string> foreign = NamesIn(folder, ErrorCode::kOutput);
  std::erase_if(foreign, [&](const std::string& name) {
    std::error_code ignored;
    return std::ranges::find(owned, name) != owned.end() &&
           !fs::is_directory(folder / name, ignored);
  });
  if (foreign.empty()) return;
  constexpr std::size_t kNamed = 5;
  std::string names;
  for (std::size_t i = 0; i < std::min(foreign.size(), kNamed); ++i) {
    names += fmt::format("{}'{}'", i == 0 ? "" : ", ", Escape(foreign[i]));
  }
  if (foreign.size() > kNamed) names += fmt::format(" and {} more", foreign.size() - kNamed);
  throw Error(ErrorCode::kOutput,
              "not replaced: it holds files that do not belong to such an output: " + names)
      .In(folder.native())
      .Hint("move them away, or choose another -o");
}

}  // namespace

StagedFolder::Impl::~Impl() {
  files.clear();
  if (!staging.name.empty() && staging.fd) {
    for (const std::string& name : names) ::unlinkat(staging.fd.get(), name.c_str(), 0);
    ::unlinkat(parent.get(), staging.name.c_str(), AT_REMOVEDIR);
  }
  registered.clear();  // before `parent` closes
  staging.registered.Reset();
}

bool StagedFolder::Impl::Replaces() const {
  // A name that is too long is refused here: its temporary's is cut, so that nothing else would
  // notice before the last rename.
  const std::optional<struct stat> st = StatOutput(path);
  if (!st) return false;
  if (!options.force) RefuseExisting(path);
  if (S_ISDIR(st->st_mode)) {
    RefuseForeignFiles(path, owned);
  } else if (!S_ISLNK(st->st_mode)) {
    throw Error(ErrorCode::kOutput, "is not a folder").In(path.native());
  }
  return true;
}

void StagedFolder::Impl::Finish() {
  for (OutputFile& file : files) file.impl_->Finish();
  if (options.fsync) SyncFolder(staging.fd.get(), path, "fsync failed");
  const std::optional<struct stat> old = StatOutput(path);
  const bool keeps_mode = old && S_ISDIR(old->st_mode);
  const mode_t mode = keeps_mode ? old->st_mode & 0777 : DefaultMode(0777);
  if (::fchmod(staging.fd.get(), mode) != 0)
    throw SystemError(ErrorCode::kOutput, path, "cannot set its mode", errno);
}

Rename StagedFolder::Impl::ToRename() const {
  const std::string name = path.filename().native();
  Rename rename{.from = staging.name, .to = name, .aside = NewTemporaryName(name)};
  rename.inode = InodeAt(parent.get(), staging.name);
  rename.is_folder = true;
  rename.force = options.force;
  if (!Replaces()) return rename;
  rename.old_inode = InodeAt(parent.get(), name);
  const Descriptor old(Retry([&] {
    return ::openat(parent.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  }));
  if (old) {
    rename.old_files = ListNames(old.get(), path);
  } else if (errno != ENOTDIR && errno != ELOOP) {  // those say that it is a link
    throw SystemError(ErrorCode::kOutput, path, "cannot be listed", errno);
  }
  return rename;
}

void StagedFolder::Impl::ForgetTemporary() {
  Unregister();
  staging.name.clear();
}

void StagedFolder::Impl::Unregister() {
  registered.clear();
  staging.registered.Reset();
}

void StagedFolder::Impl::Check() const {
  if (const fs::path name = path.filename(); name == "." || name == "..") {
    throw Error(ErrorCode::kUsage, "a folder that is renamed into place needs a name of its own")
        .In(path.native())
        .Hint("give -o the name of a new folder");
  }
  Replaces();
}

void StagedFolder::Check(const fs::path& path, std::vector<std::string> owned,
                         const OutputOptions& options) {
  Impl(path.has_filename() ? path : path.parent_path(), std::move(owned), options).Check();
}

StagedFolder::StagedFolder(const fs::path& path, std::vector<std::string> owned,
                           const OutputOptions& options)
    : impl_(std::make_unique<Impl>(path.has_filename() ? path : path.parent_path(),
                                   std::move(owned), options)) {
  impl_->Open();
}

StagedFolder::StagedFolder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

void StagedFolder::Impl::Open(const std::vector<StagedName>* kept) {
  Check();
  PrepareFolder(path, options);
  LockedFolder locked(ParentFolder(path));
  locked.RefuseLive(path);
  Replaces();
  std::optional<Temporary> adopted = AdoptKept(locked, path, kept);
  is_kept = adopted.has_value();
  staging = adopted ? std::move(*adopted) : locked.Create(path, RegisteredName::Kind::kFolder);
  parent = locked.Release();
}

StagedFolder::~StagedFolder() = default;

OutputFile& StagedFolder::Create(const std::string& name, std::uint64_t size_bytes) {
  if (!impl_->is_kept)
    impl_->registered.emplace_back(impl_->parent.get(), impl_->staging.name + "/" + name,
                                   RegisteredName::Kind::kFile);
  impl_->names.push_back(name);
  auto file = std::make_unique<OutputFile::Impl>(impl_->path / name, size_bytes, impl_->options);
  file->OpenStaged(impl_->staging.fd.get(), impl_->is_kept);
  return impl_->files.emplace_back(OutputFile(std::move(file)));
}

fs::path StagedFolder::staged_path() const {
  return ParentFolder(impl_->path) / impl_->staging.name;
}

}  // namespace phiq
