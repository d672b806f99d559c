// What every format's layout is made of: files of known size, and where each plan line's arrays go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "formats/order.h"

namespace phiq {

// One array of one plan line (codes, scales, ...), see ArrayCount.
struct PlacedArray {
  std::size_t line = 0;  // index into Plan::lines
  std::size_t array = 0;
  std::size_t file = 0;  // index into OutputLayout::files
  std::uint64_t offset_bytes = 0;
  std::uint64_t padding_bytes = 0;  // zeros after the array
  Order order = {};
};

struct PlacedFile {
  // A plain file name in the output folder. Of an output that is a file: what its name ends in
  // instead of its ending ("-00001-of-00003.gguf"); "": it is the output itself.
  std::string name;
  // Its first bytes; all of it when no array lies in it. An array may lie inside of them: it is
  // written over them (not to a pipe).
  std::vector<std::byte> head;
  std::uint64_t size_bytes = 0;
};

// A file in which no array lies.
inline PlacedFile WholeFile(std::string name, std::vector<std::byte> content) {
  const std::uint64_t size_bytes = content.size();
  return {std::move(name), std::move(content), size_bytes};
}

struct OutputLayout {
  bool is_folder = false;  // the files stand in a folder of their own
  std::size_t root = 0;    // the file that the others hang on: renamed last
  std::vector<PlacedFile> files;
  std::vector<PlacedArray> arrays;  // in the order of file and offset
};

}  // namespace phiq
