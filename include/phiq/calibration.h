// What methods learn of the inputs of weights from: a text, or an importance matrix.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace phiq {

struct CalibrationOptions {
  // Plain text, JSON lines; "self": what the model writes itself. Equal shares of the tokens.
  std::vector<std::string> texts;
  std::vector<std::string> ids;  // token ids, as EvalOptions::ids
  std::uint64_t n_tokens = 8192;
  std::uint32_t n_ctx = 512;  // tokens of a window
  float shrink = 0.2F;        // what share of each correlation is taken back
  // With the method "feedback": weights make up for what the layers before them lost, where that
  // helps on text that was held back. Each target then takes about as long as the text alone.
  bool corrects = true;
  // Inputs of more columns have moments in diagonal blocks of at most half as many, a multiple of
  // 512 up to 8192; 0: as many as the memory limit bears.
  std::uint32_t widest_block = 0;
  // Instead of a text: an importance matrix of llama.cpp's.
  std::string imatrix;
  // Where the text's is written; ".dat": in the older form.
  std::string imatrix_out;
  // Where the text's token ids are written, to be read again as `ids`.
  std::string ids_out;

  bool has_text() const noexcept { return !texts.empty() || !ids.empty(); }
};

}  // namespace phiq
