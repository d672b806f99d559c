// Renames in one folder that belong together: all of them are made, or none is.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "io/journal.h"

namespace phiq {

// The inode of a name in a folder, links not followed; 0: nothing is there.
std::uint64_t InodeAt(int dir_fd, const std::string& name) noexcept;

// Removes a hidden folder: the files named, or all in it. False when something remains.
bool RemoveFolder(int dir_fd, const std::string& name, const std::vector<std::string>* files);

class Renames {
 public:
  // `dir_fd` is the folder, open; `folder` its name for messages.
  // `is_last`  nothing comes after them that could fail.
  Renames(int dir_fd, std::filesystem::path folder, std::vector<Rename> renames, bool fsync,
          bool is_last = true);

  // Makes all, in order. What stood at a name waits under a hidden one for RemoveOld.
  // Throws   kOutput; then Undo is to be called.
  void Make();
  // Takes back what Make has made. Returns the names that stand all the same.
  std::vector<std::string> Undo();

  // What a killed run did not come to: makes those that can be made, whatever becomes of others.
  // What it had made is known by the inodes. One that cannot be made is told to `failed`.
  void Finish(std::vector<std::string>& finished, std::vector<std::string>& failed);

  // Deletes what was replaced. Throws kOutput, naming what remains.
  void RemoveOld();
  // The hidden names of what was replaced.
  std::vector<std::string> OldNames() const;

 private:
  enum class State { kNone, kAdded, kReplaced, kExchanged, kMovedAside };

  void MakeOne(std::size_t i);
  void UndoOne(std::size_t i);
  void MoveAside(std::size_t i);
  // What shall be replaced has not been exchanged or added to since the journal was written.
  bool IsAsItWas(const Rename& rename) const;
  std::filesystem::path PathOf(const std::string& name) const { return folder_ / name; }
  const std::string& OldName(std::size_t i) const;

  int dir_fd_;
  std::filesystem::path folder_;
  std::vector<Rename> renames_;
  bool fsync_, is_last_;
  std::vector<State> states_;
};

}  // namespace phiq
