// A StoredModel over a StoredModel: weights that are changed are one piece each, in float32, and
// computed when their rows are asked for. What must be known of a whole matrix before (means of its
// columns) is read once and kept.
#include "stored/expression.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/limits.h"
#include "model/weights.h"
#include "phiq/error.h"
#include "stored/files_with_config.h"
#include "stored/fill_width.h"
#include "stored/plainer_network.h"
#include "stored/stored_model.h"

namespace phiq {
namespace {

using enum TensorRole;

// Changes the weights of one role. Rows that the model lacks are zeros, columns too.
struct Change {
  bool centers_rows = false;     // each row has mean zero then
  bool centers_columns = false;  // each column of each matrix
  float factor = 1;
};

class ExpressedModel final : public StoredModel {
 public:
  ExpressedModel(std::unique_ptr<StoredModel> base, const Expression& expression)
      : StoredModel(base->path()),
        base_(std::move(base)),
        weights_(*base_),
        expression_(expression),
        config_(base_->config()) {
    if (expression.n_heads > 0) {
      config_.n_heads = expression.n_heads;
      config_.n_kv_heads = expression.n_kv_heads;
    }
    if (expression.has_all_biases) config_.attention_bias = config_.lm_head_bias = true;
    files_.emplace(base_->side_files(), OwnConfig());
    FindPieces();
  }

  std::string_view kind() const noexcept override { return base_->kind(); }
  const ModelConfig& config() const noexcept override { return config_; }
  Network network() const override {
    const bool is_plainer = expression_.router_exponent != 0 || expression_.down_exponent != 0;
    return is_plainer ? PlainerNetwork(config_) : NetworkOf(config_);
  }
  Expression expression() const override { return expression_; }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  std::string name() const override { return base_->name(); }
  std::string repository_id() const override { return base_->repository_id(); }
  const SideFiles& side_files() const noexcept override { return *files_; }
  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    base_->ReadRotary(n_positions, cosines, sines);
  }
  std::string RotaryNote(std::uint64_t n_positions) const override {
    return base_->RotaryNote(n_positions);
  }
  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    return base_->ReadTokenizer(warn);
  }
  void CheckUnchanged() const override { base_->CheckUnchanged(); }

  bool HasRawRows(std::size_t piece) const noexcept override {
    const Source& source = sources_[piece];
    return source.base_piece && base_->HasRawRows(*source.base_piece);
  }
  void ReadRawRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows,
                   std::span<std::byte> out) const override {
    base_->ReadRawRows(*sources_[piece].base_piece, first_row, n_rows, out);
  }

  std::uint64_t WorkBytes(std::size_t piece, std::uint64_t n_rows) const noexcept override {
    const Source& source = sources_[piece];
    if (source.base_piece) return base_->WorkBytes(*source.base_piece, n_rows);
    const std::uint64_t n = pieces_[piece].row_elements;
    std::uint64_t bytes = 2 * n_rows * n * sizeof(float);
    if (source.change.centers_columns) {
      // A chunk as stored and as floats, and the means of all such matrices.
      bytes += 2 * RowsAtOnce(n) * n * sizeof(float);
      for (const Source& other : sources_)
        bytes += other.matrices.size() * (n * sizeof(double) + sizeof(Matrix));
    }
    return bytes;
  }

  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override {
    const Source& source = sources_[piece];
    if (source.base_piece)
      return base_->ReadRows(*source.base_piece, first_row, n_rows, codec, out);
    const std::uint64_t n = pieces_[piece].row_elements;
    std::ranges::fill(out, 0.0F);
    const std::uint64_t n_there =
        first_row < source.shape.n_rows ? std::min(n_rows, source.shape.n_rows - first_row) : 0;
    if (n_there == 0) return;
    ReadBase(source, first_row, n_there, n, codec, out);
    for (std::uint64_t r = 0; r < n_there; ++r)
      ChangeRow(source, first_row + r, codec, out.subspan(r * n, source.shape.row_elements));
  }

 private:
  // Means of the columns of one matrix, once they are asked for.
  struct Matrix {
    std::once_flag once;
    std::vector<double> means;
  };
  struct Source {
    std::optional<std::size_t> base_piece;  // as it is
    WeightId id;
    WeightShape shape;  // of the model's own weight; no rows: it has none
    Change change;
    mutable std::deque<Matrix> matrices;  // where columns are centered
  };

  // config.json of these weights; nullopt: the model's own.
  std::optional<std::string> OwnConfig() const {
    constexpr std::string_view kName = "config.json";
    const ModelConfig& before = base_->config();
    const bool is_same = config_.n_heads == before.n_heads &&
                         config_.attention_bias == before.attention_bias &&
                         config_.lm_head_bias == before.lm_head_bias;
    const SideFiles& files = base_->side_files();
    const std::optional<std::string> text = files.ReadFile(kName, limits::kConfigBytes);
    if (is_same || !text) return std::nullopt;
    Json json = ParseJson(*text, files.PathOf(kName).string());
    json["num_attention_heads"] = config_.n_heads;
    json["num_key_value_heads"] = config_.n_kv_heads;
    json["attention_bias"] = config_.attention_bias;
    json["lm_head_bias"] = config_.lm_head_bias;
    return json.dump(2) + (text->ends_with('\n') ? "\n" : "");
  }

  static std::uint64_t RowsAtOnce(std::uint64_t row_elements) noexcept {
    constexpr std::uint64_t kElements = 1U << 16U;
    return std::max<std::uint64_t>(1, kElements / row_elements);
  }

  Change ChangeOf(TensorRole role) const {
    Change change;
    const bool has_zero_mean = expression_.has_zero_mean;
    change.centers_rows =
        has_zero_mean && (role == kTokenEmbedding || role == kAttentionOutputBias);
    change.centers_columns = has_zero_mean && (role == kAttentionOutput || role == kExpertDown);
    if (role == kRouter) change.factor = std::ldexp(1.0F, expression_.router_exponent);
    if (role == kExpertDown) change.factor = std::ldexp(1.0F, expression_.down_exponent);
    return change;
  }

  void FindPieces() {
    const ModelConfig& before = base_->config();
    for (const WeightInfo& weight : WeightsOf(config_)) {
      const WeightId id = weight.id;
      const bool is_there = HasWeight(before, id.role);
      if (is_there && weights_.StoredAs(id) != id) continue;  // a tied head
      const Change change = ChangeOf(id.role);
      WeightShape shape{0, 0, 1};
      if (is_there) shape = ShapeOf(before, id.role);
      const bool is_changed = shape != weight.shape || change.centers_rows ||
                              change.centers_columns || change.factor != 1;
      if (is_changed) {
        AddChanged(weight, shape, change);
        continue;
      }
      for (const WeightIndex::Part& part : weights_.PartsOf(id)) {
        pieces_.push_back(base_->pieces()[part.piece]);
        sources_.emplace_back().base_piece = part.piece;
      }
    }
  }

  void AddChanged(const WeightInfo& weight, const WeightShape& shape, const Change& change) {
    StoredPiece piece;
    piece.name = weight.name;
    piece.file = path();
    if (shape.n_rows > 0) {
      const StoredPiece& first = base_->pieces()[weights_.PartsOf(weight.id).front().piece];
      piece.file = first.file;
    }
    piece.role = weight.id.role;
    piece.layer = weight.id.layer;
    piece.n_rows = weight.shape.n_rows;
    piece.row_elements = weight.shape.row_elements;
    piece.shape = DimsOf(weight);
    piece.type = "F32";
    piece.encoding = GgmlType::kF32;
    if (shape.n_rows > 0) piece.size_bytes = weights_.StoredBytes(weight.id, 0, shape.n_rows);
    pieces_.push_back(std::move(piece));
    Source& source = sources_.emplace_back();
    source.id = weight.id;
    source.shape = shape;
    source.change = change;
    for (std::uint64_t i = 0; change.centers_columns && i < shape.n_matrices; ++i)
      source.matrices.emplace_back();
  }

  // Rows of the model's own weight, each at the start of a row of `out`, [n_rows, n].
  void ReadBase(const Source& source, std::uint64_t first_row, std::uint64_t n_rows,
                std::uint64_t n, RowCodec& codec, std::span<float> out) const {
    const std::uint64_t n_own = source.shape.row_elements;
    if (n == n_own)
      return weights_.ReadRows(source.id, first_row, n_rows, codec, out.first(n_rows * n));
    for (std::uint64_t r = 0; r < n_rows; ++r)
      weights_.ReadRows(source.id, first_row + r, 1, codec, out.subspan(r * n, n_own));
  }

  void ChangeRow(const Source& source, std::uint64_t row, RowCodec& codec,
                 std::span<float> x) const {
    const double factor = source.change.factor;
    if (source.change.centers_columns) {
      const std::vector<double>& means =
          MeansOf(source, row / (source.shape.n_rows / source.shape.n_matrices), codec);
      for (std::size_t c = 0; c < x.size(); ++c)
        x[c] = static_cast<float>((static_cast<double>(x[c]) - means[c]) * factor);
      return;
    }
    double mean = 0;
    if (source.change.centers_rows) {
      for (const float v : x) mean += v;
      mean /= static_cast<double>(x.size());
    }
    for (float& v : x) v = static_cast<float>((static_cast<double>(v) - mean) * factor);
  }

  const std::vector<double>& MeansOf(const Source& source, std::uint64_t index,
                                     RowCodec& codec) const {
    Matrix& matrix = source.matrices[index];
    std::call_once(matrix.once, [&] {
      const std::uint64_t n = source.shape.row_elements;
      const std::uint64_t n_rows = source.shape.n_rows / source.shape.n_matrices;
      std::vector<double> sums(n);
      std::vector<float> rows;
      for (std::uint64_t row = 0; row < n_rows;) {
        const std::uint64_t n_here = std::min(RowsAtOnce(n), n_rows - row);
        rows.resize(n_here * n);
        weights_.ReadRows(source.id, index * n_rows + row, n_here, codec, rows);
        for (std::size_t at = 0; at < rows.size(); ++at) sums[at % n] += rows[at];
        row += n_here;
      }
      for (double& sum : sums) sum /= static_cast<double>(n_rows);
      matrix.means = std::move(sums);
    });
    return matrix.means;
  }

  const std::unique_ptr<StoredModel> base_;
  const WeightIndex weights_;  // of base_
  const Expression expression_;
  ModelConfig config_;
  std::optional<FilesWithConfig> files_;  // refers to base_
  std::vector<StoredPiece> pieces_;
  std::deque<Source> sources_;  // beside pieces_
};

}  // namespace

void FillWidth(const ModelConfig& config, std::string_view runtime, Expression& expression) {
  const std::uint32_t per_key = config.n_heads / config.n_kv_heads;
  const std::uint32_t n_heads = config.hidden_size / config.head_dim;
  if (n_heads < config.n_heads || n_heads * config.head_dim != config.hidden_size ||
      n_heads % per_key != 0) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{} heads of {} cannot be filled up with heads of zeros to hidden_size "
                            "{}, which {} takes them to have",
                            config.n_heads, config.head_dim, config.hidden_size, runtime))
        .In("config.json");
  }
  expression.n_heads = n_heads;
  expression.n_kv_heads = n_heads / per_key;
}

Network PlainerNetwork(const ModelConfig& config) {
  Network network = NetworkOf(config);
  const NormSpec norm = RmsNormSpec{config.rms_norm_eps, /*has_bias=*/true};
  for (DecoderLayer& layer : network.layers) {
    layer.attention_norm = layer.mlp_norm = norm;
    std::get<Experts>(layer.mlp).is_softmax = true;
  }
  network.output_norm = norm;
  return network;
}

Expression Needed(const ModelConfig& config, Expression expression) {
  if (expression.n_heads == config.n_heads && expression.n_kv_heads == config.n_kv_heads)
    expression.n_heads = expression.n_kv_heads = 0;
  if (config.attention_bias && config.lm_head_bias) expression.has_all_biases = false;
  return expression;
}

std::unique_ptr<StoredModel> Express(std::unique_ptr<StoredModel> model,
                                     const Expression& expression) {
  if (Needed(model->config(), expression) == Expression()) return model;
  return std::make_unique<ExpressedModel>(std::move(model), expression);
}

}  // namespace phiq
