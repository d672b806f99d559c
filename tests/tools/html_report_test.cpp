// The pages as a whole; that they are well-formed and work is tested in tests/browser.
#include "html_report.h"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "tools/report_samples.h"

namespace phiq::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(ShortNames, LeavesOutWhatAllShare) {
  EXPECT_THAT(ShortNames({"out/phi-3.5-Q8_0.gguf", "b/phi-3.5-Q4_K_M.gguf", "phi-3.5-Q4_K_S.gguf"}),
              ElementsAre("Q8_0", "Q4_K_M", "Q4_K_S"));
  EXPECT_THAT(ShortNames({"phi-onnx-int4/", "phi-onnx-int8"}), ElementsAre("int4", "int8"));
}

TEST(ShortNames, KeepsWordsWhole) {
  EXPECT_THAT(ShortNames({"Q4_K_M.gguf", "Q4_K_S.gguf"}), ElementsAre("Q4_K_M", "Q4_K_S"));
  EXPECT_THAT(ShortNames({"a3.5x.gguf", "b3.5x.gguf"}), ElementsAre("a3.5x", "b3.5x"));
  EXPECT_THAT(ShortNames({"phi3.5-int4", "phi4.5-int4"}),
              ElementsAre("phi3.5-int4", "phi4.5-int4"));
  EXPECT_THAT(ShortNames({"a.gguf", "b.onnx"}), ElementsAre("a.gguf", "b.onnx"));
}

TEST(ShortNames, TellsFilesOfOneNameApart) {
  EXPECT_THAT(ShortNames({"x/phi.gguf", "y/phi.gguf"}), ElementsAre("x/phi", "y/phi"));
  EXPECT_THAT(ShortNames({"phi.gguf", "phi.gguf"}), ElementsAre("phi.gguf", "phi.gguf"));
  EXPECT_THAT(ShortNames({"phi-a", "phi-"}), ElementsAre("phi-a", "phi-"));
}

TEST(ShortNames, OfOneModelIsItsName) {
  EXPECT_THAT(ShortNames({"out/phi.gguf"}), ElementsAre("phi.gguf"));
  EXPECT_THAT(ShortNames({}), ElementsAre());
}

TEST(EvalPage, HasTheFiguresOfOneModel) {
  EvalReport report = phiq::testing::SampleEval(1, 4, true);
  report.models[0].divergence->mean_kl = {0.0149423, 0.000204};
  report.models[0].divergence->same_top = {0.9355, 0.0027};
  const std::string html = EvalHtml(report);
  EXPECT_THAT(html, HasSubstr("<dd class=\"value\">0.01494 ± 0.00020</dd>"));
  EXPECT_THAT(html, HasSubstr("<dd class=\"value\">93.55 ± 0.27 %</dd>"));
  EXPECT_THAT(html, HasSubstr("reference: 14.21 ± 0.25"));
}

TEST(EvalPage, HasNoDivergenceWithoutAReference) {
  const std::string html = EvalHtml(phiq::testing::SampleEval(2, 4, false));
  EXPECT_THAT(html, Not(HasSubstr("KL")));
  EXPECT_THAT(html, HasSubstr("Size against perplexity"));
}

TEST(EvalPage, NamesThresholdsThatWereNotMet) {
  EvalReport report = phiq::testing::SampleEval(1, 4, true);
  EXPECT_THAT(EvalHtml(report), Not(HasSubstr("Thresholds")));
  report.unmet = {"phi.gguf: mean KL 0.031 is above --max-kl 0.02"};
  EXPECT_THAT(EvalHtml(report),
              HasSubstr("<li>phi.gguf: mean KL 0.031 is above --max-kl 0.02</li>"));
}

TEST(EvalPage, DrawsTheMeanOfEachPlaceInTheWindow) {
  EvalReport report = phiq::testing::SampleEval(1, 1, true);
  report.n_ctx = 6;
  report.n_windows = 2;
  report.n_scored_per_window = 2;
  report.n_scored = 4;
  report.models[0].divergence->kl = {0.1F, 0.5F, 0.3F, 0.75F};
  const std::string html = EvalHtml(report);
  // The last two of six tokens; (0.1 + 0.3) / 2 and (0.5 + 0.75) / 2.
  EXPECT_THAT(html, HasSubstr("tokens 4 to 4: 0.2000</title>"));
  EXPECT_THAT(html, HasSubstr("tokens 5 to 5: 0.6250</title>"));
}

TEST(EvalPage, DoesNotGrowWithTheText) {
  EvalReport report = phiq::testing::SampleEval(1, 32, true);
  const std::size_t size = EvalHtml(report).size();
  report.n_windows *= 100;
  report.n_scored *= 100;
  std::mt19937 rng(2);
  report.models[0].divergence->kl =
      phiq::testing::SampleKl(rng, static_cast<std::size_t>(report.n_scored), 0.008);
  // A few bins and digits more.
  EXPECT_LT(EvalHtml(report).size(), size + 2000);
}

TEST(ComparePage, HasTheFiguresAndARowForEachTensor) {
  const Comparison comparison = phiq::testing::SampleComparison(2);
  const std::string html = CompareHtml(comparison);
  EXPECT_THAT(html, HasSubstr("<dd class=\"value\">0.07123</dd>"));
  for (const ComparedTensor& tensor : comparison.tensors)
    EXPECT_THAT(html, HasSubstr("<th scope=\"row\">" + tensor.name + "</th>"));
}

TEST(ComparePage, OfALargeModelStaysBelowAMegabyte) {
  EXPECT_LT(CompareHtml(phiq::testing::SampleComparison(64)).size(), 1'000'000U);
}

TEST(QuantizePage, SaysWhatIsLeftOfEachTensorsError) {
  ConvertReport report = phiq::testing::SampleConversion(2);
  OutputError& error = report.output_errors[0][3];
  ASSERT_EQ(error.tensor, "model.layers.0.self_attn.o_proj.weight");
  error.error = 0.25;
  error.reference = 2;
  const std::string html = QuantizeHtml(report);
  EXPECT_THAT(html, HasSubstr("model.layers.0.self_attn.o_proj.weight: 12.50 % (feedback)"));
  EXPECT_THAT(html, HasSubstr("attention qkv: k"));
  EXPECT_THAT(html, HasSubstr("feedback, instead"));
  EXPECT_THAT(html, HasSubstr("gguf Q4_K_M: out/phi.gguf"));
}

TEST(QuantizePage, OfATargetWithoutScalesSaysSo) {
  ConvertReport report = phiq::testing::SampleConversion(2);
  report.output_errors[1].clear();
  EXPECT_THAT(QuantizeHtml(report), HasSubstr("No tensor of it takes codes from a text."));
}

}  // namespace
}  // namespace phiq::cli
