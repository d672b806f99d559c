// `phiq verify` of an OpenVINO folder: phiq's own, or an export of optimum-intel (whose weights
// alone are then compared).
#include "convert/compare_weights.h"
#include "convert/open_model.h"
#include "convert/verify_formats.h"
#include "formats/openvino/compare.h"
#include "formats/openvino/reader.h"
#include "formats/openvino/side_files.h"

namespace phiq {

Verification VerifyOpenVino(const VerifyOptions& options, unsigned threads, const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  const openvino::Folder folder = openvino::Folder::Open(options.output);
  const SourceModel source =
      OpenSourceModel(options.model, {options.ignore_extra, options.adapters}, warn);
  Verification result;
  result.problems = folder.FindProblems();
  std::vector<StoredPiece> pieces;
  for (const openvino::Weight& weight : folder.weights())
    pieces.push_back(WholePiece(weight, folder.SizeBytes(weight)));
  const MatchedWeights found = MatchWeights(pieces, source, result.problems);
  if (openvino::IsOurs(folder)) {
    result.notes = NotesOf(openvino::TokenizerDecisions(source.model));
    for (std::string& problem :
         openvino::FindDifferences(folder, source.stored->side_files(), source.model))
      result.problems.push_back(std::move(problem));
  }
  const auto read_rows = [&](std::size_t index, std::uint64_t first_row, std::uint64_t n_rows,
                             RowCodec& codec, std::span<float> out) {
    folder.ReadRows(folder.weights()[found.pieces[index]], first_row, n_rows, codec, out);
  };
  const bool nan_was_zeroed = folder.FindInfo({"phiq", "nan_policy"}) != nullptr;
  const bool was_clamped = folder.FindInfo({"phiq", "overflow_policy"}) != nullptr;
  CompareWeights(source, found.weights, read_rows, {nan_was_zeroed, was_clamped, threads}, hooks,
                 result);
  return result;
}

}  // namespace phiq
