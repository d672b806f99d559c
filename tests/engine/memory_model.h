// A small random model in memory, and the same forward pass once more: plain loops in double
// precision, written from the architecture's description and not from the engine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "stored/stored_model.h"

namespace phiq::testing {

inline ModelConfig SmallConfig() {
  ModelConfig config;
  config.architecture = "Phi3ForCausalLM";
  config.vocab_size = 600;  // three tiles of the vocabulary, the last one short
  config.hidden_size = 24;
  config.intermediate_size = 300;  // two tiles
  config.n_layers = 2;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 6;
  config.rope_dim = 4;
  config.rms_norm_eps = 1e-5F;
  config.max_position_embeddings = 256;
  config.original_max_position_embeddings = 256;
  return config;
}

class MemoryModel : public StoredModel {
 public:
  MemoryModel(ModelConfig config, unsigned seed) : config_(std::move(config)), random_(seed) {
    Add(TensorRole::kTokenEmbedding, -1, 1.0F);
    for (std::int32_t layer = 0; layer < static_cast<std::int32_t>(config_.n_layers); ++layer) {
      Add(TensorRole::kAttentionNorm, layer, 1.0F);
      Add(TensorRole::kAttentionQkv, layer, 0.5F);
      Add(TensorRole::kAttentionOutput, layer, 0.3F);
      Add(TensorRole::kMlpNorm, layer, 1.0F);
      Add(TensorRole::kMlpGateUp, layer, 0.4F);
      Add(TensorRole::kMlpDown, layer, 0.1F);
    }
    Add(TensorRole::kOutputNorm, -1, 1.0F);
    if (!config_.tie_word_embeddings) Add(TensorRole::kOutputHead, -1, 0.5F);
  }

  std::string_view kind() const noexcept override { return "memory"; }
  const ModelConfig& config() const noexcept override { return config_; }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec&,
                std::span<float> out) const override {
    const std::size_t n = pieces_[piece].row_elements;
    std::copy_n(weights_[piece].begin() + static_cast<std::ptrdiff_t>(first_row * n), n_rows * n,
                out.begin());
  }
  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    const std::size_t n_pairs = config_.rope_dim / 2;
    for (std::size_t p = 0; p < n_positions; ++p) {
      for (std::size_t i = 0; i < n_pairs; ++i) {
        cosines[p * n_pairs + i] = static_cast<float>(std::cos(Angle(p, i)));
        sines[p * n_pairs + i] = static_cast<float>(std::sin(Angle(p, i)));
      }
    }
  }
  Tokenizer ReadTokenizer(const WarningFn&) const override {
    throw std::logic_error("a model in memory has no tokenizer");
  }
  void CheckUnchanged() const override {}

  double Angle(std::size_t position, std::size_t pair) const {
    return static_cast<double>(position) /
           std::pow(100.0, 2.0 * static_cast<double>(pair) / config_.rope_dim);
  }
  std::vector<float>& Weights(TensorRole role, std::int32_t layer) {
    return weights_[Find(role, layer)];
  }
  const std::vector<float>& Weights(TensorRole role, std::int32_t layer) const {
    return weights_[Find(role, layer)];
  }

 private:
  void Add(TensorRole role, std::int32_t layer, float size) {
    const WeightShape shape = ShapeOf(config_, role);
    StoredPiece piece;
    piece.name = std::string(RoleName(role)) + std::to_string(layer);
    piece.role = role;
    piece.layer = layer;
    piece.n_rows = shape.n_rows;
    piece.row_elements = shape.row_elements;
    piece.type = "F32";
    pieces_.push_back(piece);
    std::normal_distribution<float> normal(0, size);
    std::vector<float>& weights = weights_.emplace_back(shape.n_rows * shape.row_elements);
    std::ranges::generate(weights, [&] { return normal(random_); });
  }
  std::size_t Find(TensorRole role, std::int32_t layer) const {
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      if (pieces_[i].role == role && pieces_[i].layer == layer) return i;
    }
    return Find(TensorRole::kTokenEmbedding, -1);  // a tied head
  }

  ModelConfig config_;
  std::mt19937 random_;
  std::vector<StoredPiece> pieces_;
  std::vector<std::vector<float>> weights_;
};

// y = w x, w of [y.size(), x.size()] at the given row.
inline std::vector<double> Times(const std::vector<float>& w, std::size_t first_row,
                                 std::size_t n_rows, const std::vector<double>& x) {
  std::vector<double> y(n_rows);
  for (std::size_t r = 0; r < n_rows; ++r) {
    for (std::size_t c = 0; c < x.size(); ++c) y[r] += w[(first_row + r) * x.size() + c] * x[c];
  }
  return y;
}

inline std::vector<double> Normalized(const std::vector<double>& x, const std::vector<float>& w,
                                      double epsilon) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    y[i] = x[i] * w[i] / std::sqrt(squares / static_cast<double>(x.size()) + epsilon);
  return y;
}

// Logits of every position of one text: [n_positions][vocab_size].
inline std::vector<std::vector<double>> PlainLogits(const MemoryModel& model,
                                                    std::span<const std::uint32_t> ids) {
  using enum TensorRole;
  const ModelConfig& config = model.config();
  const std::size_t hidden = config.hidden_size;
  const std::size_t d = config.head_dim;
  const std::size_t n_pairs = config.rope_dim / 2;
  std::vector<std::vector<double>> h;
  for (const std::uint32_t id : ids) {
    const auto row =
        model.Weights(kTokenEmbedding, -1).begin() + static_cast<std::ptrdiff_t>(id * hidden);
    h.emplace_back(row, row + static_cast<std::ptrdiff_t>(hidden));
  }
  for (std::int32_t layer = 0; layer < static_cast<std::int32_t>(config.n_layers); ++layer) {
    std::vector<std::vector<double>> q, k, v;  // by position
    for (std::size_t p = 0; p < h.size(); ++p) {
      const auto x = Normalized(h[p], model.Weights(kAttentionNorm, layer), config.rms_norm_eps);
      const std::vector<float>& qkv = model.Weights(kAttentionQkv, layer);
      const std::size_t n_q = config.n_heads * d;
      const std::size_t n_kv = config.n_kv_heads * d;
      q.push_back(Times(qkv, 0, n_q, x));
      k.push_back(Times(qkv, n_q, n_kv, x));
      v.push_back(Times(qkv, n_q + n_kv, n_kv, x));
      for (auto* heads : {&q.back(), &k.back()}) {
        for (std::size_t head = 0; head < heads->size() / d; ++head) {
          for (std::size_t i = 0; i < n_pairs; ++i) {
            double& a = (*heads)[head * d + i];
            double& b = (*heads)[head * d + i + n_pairs];
            const double angle = model.Angle(p, i);
            const double rotated = a * std::cos(angle) - b * std::sin(angle);
            b = b * std::cos(angle) + a * std::sin(angle);
            a = rotated;
          }
        }
      }
    }
    for (std::size_t p = 0; p < h.size(); ++p) {
      std::vector<double> attended(config.n_heads * d);
      for (std::size_t head = 0; head < config.n_heads; ++head) {
        const std::size_t kv_head = head * config.n_kv_heads / config.n_heads;
        const std::size_t window = config.sliding_window == 0 ? p + 1 : config.sliding_window;
        const std::size_t first = p + 1 > window ? p + 1 - window : 0;
        double total = 0;
        for (std::size_t s = first; s <= p; ++s) {
          double score = 0;
          for (std::size_t i = 0; i < d; ++i) score += q[p][head * d + i] * k[s][kv_head * d + i];
          const double weight = std::exp(score / std::sqrt(static_cast<double>(d)));
          total += weight;
          for (std::size_t i = 0; i < d; ++i)
            attended[head * d + i] += weight * v[s][kv_head * d + i];
        }
        for (std::size_t i = 0; i < d; ++i) attended[head * d + i] /= total;
      }
      const auto out = Times(model.Weights(kAttentionOutput, layer), 0, hidden, attended);
      for (std::size_t i = 0; i < hidden; ++i) h[p][i] += out[i];
    }
    for (std::vector<double>& row : h) {
      const auto x = Normalized(row, model.Weights(kMlpNorm, layer), config.rms_norm_eps);
      const std::size_t n = config.intermediate_size;
      std::vector<double> gate = Times(model.Weights(kMlpGateUp, layer), 0, n, x);
      const std::vector<double> up = Times(model.Weights(kMlpGateUp, layer), n, n, x);
      for (std::size_t i = 0; i < n; ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
      const auto out = Times(model.Weights(kMlpDown, layer), 0, hidden, gate);
      for (std::size_t i = 0; i < hidden; ++i) row[i] += out[i];
    }
  }
  std::vector<std::vector<double>> logits;
  for (const std::vector<double>& row : h) {
    logits.push_back(Times(model.Weights(kOutputHead, -1), 0, config.vocab_size,
                           Normalized(row, model.Weights(kOutputNorm, -1), config.rms_norm_eps)));
  }
  return logits;
}

inline std::vector<std::uint32_t> RandomIds(std::size_t n, std::uint32_t vocab_size,
                                            unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::uint32_t> ids(n);
  std::ranges::generate(ids, [&] { return static_cast<std::uint32_t>(random() % vocab_size); });
  return ids;
}

}  // namespace phiq::testing
