// `phiq verify` of an MLX folder: phiq's own, or mlx-lm's (whose weights alone are then compared).
#include "convert/compare_weights.h"
#include "convert/open_model.h"
#include "convert/verify_formats.h"
#include "formats/mlx/compare.h"
#include "formats/mlx/stored_model.h"

namespace phiq {

Verification VerifyMlx(const VerifyOptions& options, unsigned threads, const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  mlx::Folder folder = mlx::Folder::Open(options.output, warn);
  const SourceModel source =
      OpenSourceModel(options.model, {options.ignore_extra, options.adapters}, warn);
  Verification result;
  if (mlx::IsOurs(folder))
    result.problems = mlx::FindDifferences(folder, source.stored->side_files(), source.model);
  const bool nan_was_zeroed = folder.tensors().metadata().contains("phiq.nan_policy");
  const bool was_clamped = folder.tensors().metadata().contains("phiq.overflow_policy");
  const std::unique_ptr<StoredModel> model =
      mlx::MakeStoredModel(std::move(folder), options.output);
  const MatchedWeights found = MatchWeights(model->pieces(), source, result.problems);
  const auto read_rows = [&](std::size_t index, std::uint64_t first_row, std::uint64_t n_rows,
                             RowCodec& codec, std::span<float> out) {
    model->ReadRows(found.pieces[index], first_row, n_rows, codec, out);
  };
  CompareWeights(source, found.weights, read_rows, {nan_was_zeroed, was_clamped, threads}, hooks,
                 result);
  return result;
}

}  // namespace phiq
