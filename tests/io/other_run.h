// A run of another process, which a test can kill.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>

namespace phiq {

// Another process that has called `start` and lives on until it is killed.
class OtherRun {
 public:
  explicit OtherRun(const std::function<void()>& start) {
    std::array<int, 2> ready = {};
    if (::pipe(ready.data()) != 0) ADD_FAILURE();
    pid_ = ::fork();
    if (pid_ == 0) {
      start();
      (void)!::write(ready[1], "", 1);
      for (;;) ::pause();
    }
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    ::close(ready[0]);
    ::close(ready[1]);
  }
  ~OtherRun() { Kill(); }
  OtherRun(const OtherRun&) = delete;
  OtherRun& operator=(const OtherRun&) = delete;

  void Kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
};

}  // namespace phiq
