// The progress bar.
#pragma once

#include <cstddef>

#include "phiq/convert.h"

namespace phiq::cli {

// One line on standard error, drawn again and again; gone when the job ends. Plain characters and
// carriage returns only: no colour, no escape sequence.
class ProgressBar {
 public:
  // `wanted` and standard error is a terminal that can go back to the start of a line.
  explicit ProgressBar(bool wanted);
  ~ProgressBar() { Clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Draw(const Progress& progress);
  void Clear();  // before anything else is printed

 private:
  bool shown_;
  std::size_t width_ = 0;  // of what stands on the line now
};

}  // namespace phiq::cli
