// Names, locks and the table of temporaries.
#include "io/temporaries.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "base/sha256.h"
#include "phiq/error.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMark = ".phiq-tmp.";
constexpr std::string_view kJournalPrefix = ".phiq-run.";
constexpr std::size_t kSuffixLength = 12;
constexpr std::string_view kSuffixAlphabet = "0123456789abcdefghijklmnopqrstuv";  // 5 bits each

enum SlotState : int { kFree, kFilling, kLive };

struct Slot {
  std::atomic<int> state = kFree;
  int dir_fd = -1;
  RegisteredName::Kind kind = RegisteredName::Kind::kFile;
  std::array<char, 2 * NAME_MAX + 2> name = {};  // FOLDER/FILE at most
};

// As many as a process has descriptors by default; each live temporary holds one at least.
std::array<Slot, 1024> table;
static_assert(std::atomic<int>::is_always_lock_free, "the table is read by signal handlers");

void UnlinkLive(RegisteredName::Kind kind) noexcept {
  for (const Slot& slot : table) {
    if (slot.state.load(std::memory_order_acquire) != kLive || slot.kind != kind) continue;
    ::unlinkat(slot.dir_fd, slot.name.data(),
               kind == RegisteredName::Kind::kFolder ? AT_REMOVEDIR : 0);
  }
}

std::string RandomSuffix() {
  std::array<unsigned char, kSuffixLength> bytes = {};
  if (Retry([&] { return ::getrandom(bytes.data(), bytes.size(), GRND_NONBLOCK); }) !=
      static_cast<ssize_t>(bytes.size())) {
    // No randomness: O_EXCL keeps us safe, so all that is needed is a name that differs.
    static std::atomic<std::uint64_t> counter = 0;
    const std::uint64_t ticks =
        static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()) +
        (counter++ << 48) + static_cast<std::uint64_t>(::getpid());
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<unsigned char>(ticks >> (5 * i));
    }
  }
  std::string suffix;
  for (const unsigned char byte : bytes) suffix += kSuffixAlphabet[byte % kSuffixAlphabet.size()];
  return suffix;
}

// PREFIX and random characters.
bool HasSuffix(std::string_view name, std::size_t prefix_length) {
  return name.size() == prefix_length + kSuffixLength &&
         name.find_first_not_of(kSuffixAlphabet, prefix_length) == std::string_view::npos;
}

}  // namespace

void UnlinkTemporariesNow() noexcept {
  const int saved = errno;
  UnlinkLive(RegisteredName::Kind::kFile);
  UnlinkLive(RegisteredName::Kind::kFolder);  // empty by now
  errno = saved;
}

std::string TemporaryPrefix(std::string_view name) {
  const std::size_t room = NAME_MAX - 1 - kMark.size() - kSuffixLength;
  if (name.size() <= room) return fmt::format(".{}{}", name, kMark);
  const std::string hash = Sha256Hex(name).substr(0, 16);
  std::size_t stem = room - 1 - hash.size();
  const auto continues = [&](std::size_t i) {
    return (static_cast<unsigned char>(name[i]) & 0xC0U) == 0x80U;
  };
  while (stem > 0 && continues(stem)) --stem;  // some file systems take whole UTF-8 characters only
  return fmt::format(".{}~{}{}", name.substr(0, stem), hash, kMark);
}

bool IsTemporaryName(std::string_view name) noexcept {
  const std::size_t mark = name.rfind(kMark);
  return mark != std::string_view::npos && mark > 1 && name[0] == '.' &&
         HasSuffix(name, mark + kMark.size());
}

bool IsJournalName(std::string_view name) noexcept {
  return name.starts_with(kJournalPrefix) && HasSuffix(name, kJournalPrefix.size());
}

std::string NewTemporaryName(std::string_view name) {
  return TemporaryPrefix(name) + RandomSuffix();
}

std::vector<std::string> ListNames(int dir_fd, const fs::path& shown) {
  const auto failure = [&] {
    return SystemError(ErrorCode::kOutput, shown, "cannot be listed", errno);
  };
  Descriptor fd(Retry([&] { return ::openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (!fd) throw failure();
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(fd.get()), ::closedir);
  if (!dir) throw failure();
  fd.Release();
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) throw failure();
  return names;
}

LockResult TryLock(int fd) noexcept {
  if (Retry([&] { return ::flock(fd, LOCK_EX | LOCK_NB); }) == 0) return LockResult::kLocked;
  return errno == EWOULDBLOCK ? LockResult::kHeldByAnother : LockResult::kUnsupported;
}

RegisteredName::RegisteredName(int dir_fd, std::string_view name, Kind kind) {
  for (std::size_t i = 0; i < table.size(); ++i) {
    Slot& slot = table[i];
    int expected = kFree;
    if (!slot.state.compare_exchange_strong(expected, kFilling)) continue;
    slot_ = static_cast<int>(i);
    slot.dir_fd = dir_fd;
    slot.kind = kind;
    const std::size_t length = std::min(name.size(), slot.name.size() - 1);
    std::memcpy(slot.name.data(), name.data(), length);
    slot.name[length] = '\0';
    slot.state.store(kLive, std::memory_order_release);
    return;
  }
  throw Error(ErrorCode::kResources,
              fmt::format("more than {} output files at once", table.size()));
}

RegisteredName& RegisteredName::operator=(RegisteredName&& other) noexcept {
  if (this != &other) {
    Reset();
    slot_ = std::exchange(other.slot_, -1);
  }
  return *this;
}

void RegisteredName::Reset() noexcept {
  if (slot_ < 0) return;
  table[static_cast<std::size_t>(slot_)].state.store(kFree, std::memory_order_release);
  slot_ = -1;
}

fs::path ParentFolder(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

LockedFolder::LockedFolder(const fs::path& path)
    : fd_(Retry([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); })) {
  if (!fd_) throw SystemError(ErrorCode::kOutput, path, "cannot open the folder", errno);
  // Every holder lets go within milliseconds; a lock that lasts is somebody else's.
  constexpr int kAttempts = 1000;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (TryLock(fd_.get()) != LockResult::kHeldByAnother) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  throw Error(ErrorCode::kTryAgain, "the folder is locked by another program").In(path.native());
}

Descriptor LockedFolder::Release() noexcept {
  ::flock(fd_.get(), LOCK_UN);
  return std::move(fd_);
}

void LockedFolder::RefuseLive(const fs::path& final_path) const {
  const std::string prefix = TemporaryPrefix(final_path.filename().native());
  for (const std::string& name : ListNames(fd_.get(), ParentFolder(final_path))) {
    if (!name.starts_with(prefix) || !HasSuffix(name, prefix.size())) continue;
    const Descriptor fd(Retry([&] {
      return ::openat(fd_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    }));
    if (!fd || TryLock(fd.get()) != LockResult::kHeldByAnother) continue;
    throw Error(ErrorCode::kTryAgain, "locked by another run")
        .In(final_path.native())
        .Hint("it writes the same output");
  }
}

Temporary LockedFolder::Create(const fs::path& final_path, RegisteredName::Kind kind) {
  return CreateNamed(TemporaryPrefix(final_path.filename().native()), final_path, kind);
}

std::optional<Temporary> LockedFolder::Adopt(const std::string& name, std::uint64_t inode) const {
  struct stat st = {};
  if (::fstatat(fd_.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return std::nullopt;
  const int mode = S_ISDIR(st.st_mode) ? O_RDONLY | O_DIRECTORY : O_RDWR;
  Temporary temporary;
  temporary.name = name;
  temporary.fd = Descriptor(
      Retry([&] { return ::openat(fd_.get(), name.c_str(), mode | O_NOFOLLOW | O_CLOEXEC); }));
  if (!temporary.fd || ::fstat(temporary.fd.get(), &st) != 0 || st.st_ino != inode ||
      st.st_uid != ::geteuid() || TryLock(temporary.fd.get()) == LockResult::kHeldByAnother)
    return std::nullopt;
  return temporary;
}

Temporary LockedFolder::CreateJournal(const fs::path& path) {
  return CreateNamed(std::string(kJournalPrefix), path, RegisteredName::Kind::kFile);
}

Temporary LockedFolder::CreateNamed(const std::string& prefix, const fs::path& path,
                                    RegisteredName::Kind kind) {
  const bool is_folder = kind == RegisteredName::Kind::kFolder;
  constexpr int kAttempts = 100;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Temporary temporary;
    temporary.name = prefix + RandomSuffix();
    const char* const name = temporary.name.c_str();
    temporary.registered = RegisteredName(fd_.get(), temporary.name, kind);
    if (is_folder && ::mkdirat(fd_.get(), name, 0700) == 0) {
      temporary.fd = Descriptor(Retry([&] {
        return ::openat(fd_.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      }));
      if (!temporary.fd) {
        const int number = errno;
        ::unlinkat(fd_.get(), name, AT_REMOVEDIR);
        throw SystemError(ErrorCode::kOutput, path, "cannot create", number);
      }
    } else if (!is_folder) {
      temporary.fd = Descriptor(Retry([&] {
        return ::openat(fd_.get(), name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
      }));
    }
    if (temporary.fd) {
      TryLock(temporary.fd.get());  // unsupported: go on without
      return temporary;
    }
    if (errno != EEXIST) throw SystemError(ErrorCode::kOutput, path, "cannot create", errno);
  }
  throw SystemError(ErrorCode::kOutput, path, "cannot create", EEXIST);
}

}  // namespace phiq
