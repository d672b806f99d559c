// Writes pages of invented reports into a folder, for the tests that parse and open them.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "html_report.h"
#include "tools/report_samples.h"

namespace {

using phiq::Comparison;
using phiq::EvalReport;
using phiq::testing::SampleComparison;
using phiq::testing::SampleConversion;
using phiq::testing::SampleEval;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr const char* kHostile = "<script>alert(1)</script>&amp;\"'\x01\xff";

// Models that are the reference, one of which a name wants to break the page.
EvalReport EqualModels() {
  EvalReport report = SampleEval(2, 1, true);
  for (phiq::EvaluatedModel& model : report.models) {
    phiq::Divergence same;
    same.same_top.value = 1;
    same.kl.assign(model.divergence->kl.size(), 0);
    model.divergence = same;
    model.hidden_error = {0};
  }
  report.models[0].path = kHostile;
  return report;
}

EvalReport BrokenNumbers() {
  EvalReport report = SampleEval(3, 4, true);
  report.models[0].perplexity = {kInfinity, kNan};
  report.models[0].divergence->mean_kl = {kNan, kNan};
  report.models[0].divergence->kl[5] = std::numeric_limits<float>::quiet_NaN();
  report.models[0].divergence->kl[6] = std::numeric_limits<float>::infinity();
  report.models[1].hidden_error = {kNan, 0, 1e-320, 1e308};
  report.models[2].bits_per_weight = kInfinity;
  report.unmet = {std::string(kHostile) + ": mean KL 0.031 is above --max-kl 0.02"};
  return report;
}

Comparison BrokenComparison() {
  Comparison comparison = SampleComparison(1);
  comparison.tensors[0].name = kHostile;
  comparison.tensors[0].relative_rmse = kInfinity;
  comparison.tensors[0].snr_db = -kInfinity;
  comparison.tensors[1].share = kNan;
  comparison.b.path = kHostile;
  return comparison;
}

Comparison EqualComparison() {
  Comparison comparison = SampleComparison(2);
  for (phiq::ComparedTensor& tensor : comparison.tensors) {
    tensor.max_error = tensor.rmse = tensor.relative_rmse = tensor.share = 0;
    tensor.snr_db = kInfinity;
    tensor.cosine = 1;
  }
  comparison.relative_rmse = comparison.max_error = 0;
  return comparison;
}

// One output without such tensors, and errors that are no numbers or nothing; names that would be
// markup.
phiq::ConvertReport BrokenConversion() {
  phiq::ConvertReport report = phiq::testing::SampleConversion(4);
  report.output_errors[1].clear();
  std::vector<phiq::OutputError>& errors = report.output_errors[0];
  errors[0].error = kInfinity;
  errors[1].error = std::numeric_limits<double>::quiet_NaN();
  errors[2].error = errors[2].reference = 0;
  errors[3].error = 0;
  errors[4].error = 7 * errors[4].reference;
  report.planned.outputs[0].files[0].path = kHostile;
  return report;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: phiq_write_sample_pages FOLDER\n", stderr);
    return 2;
  }
  bool is_written = true;
  const auto write = [&](const char* name, const std::string& html) {
    std::ofstream file(std::filesystem::path(argv[1]) / name, std::ios::binary);
    file << html;
    is_written = is_written && file.flush().good();
  };
  write("eval_one.html", phiq::cli::EvalHtml(SampleEval(1, 32, true)));
  write("eval_three.html", phiq::cli::EvalHtml(SampleEval(3, 32, true)));
  write("eval_twenty.html", phiq::cli::EvalHtml(SampleEval(20, 64, true)));
  write("eval_alone.html", phiq::cli::EvalHtml(SampleEval(1, 32, false)));
  write("eval_equal.html", phiq::cli::EvalHtml(EqualModels()));
  write("eval_broken.html", phiq::cli::EvalHtml(BrokenNumbers()));
  write("compare_small.html", phiq::cli::CompareHtml(SampleComparison(1)));
  write("compare_usual.html", phiq::cli::CompareHtml(SampleComparison(32)));
  write("compare_large.html", phiq::cli::CompareHtml(SampleComparison(64)));
  write("compare_equal.html", phiq::cli::CompareHtml(EqualComparison()));
  write("compare_broken.html", phiq::cli::CompareHtml(BrokenComparison()));
  write("quantize_small.html", phiq::cli::QuantizeHtml(SampleConversion(1)));
  write("quantize_usual.html", phiq::cli::QuantizeHtml(SampleConversion(32)));
  write("quantize_broken.html", phiq::cli::QuantizeHtml(BrokenConversion()));
  return is_written ? 0 : 1;
}
