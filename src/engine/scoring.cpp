// Logits are made tile by tile and summed as they come: a whole row of them for each token would be
// the largest array of an evaluation.
#include "engine/scoring.h"

#include <algorithm>

#include "base/portable_math.h"
#include "engine/kernels.h"
#include "engine/product.h"
#include "phiq/error.h"

namespace phiq::engine {
namespace {

// Of one position and model, over the part of the vocabulary seen so far. With p = exp(logit - max)
// of the first model, KL = sum p (l - m) / sum p - (log sum exp l - log sum exp m).
struct Running {
  LogitSums sums;
  double difference = 0;  // sum exp(l - max l) * (l - m): l of the first model, m of this one

  void Add(const LogitSums& tile, std::uint32_t first_token) {
    if (tile.max_logit > sums.max_logit) {
      sums.sum_exp = sums.sum_exp * Ratio(sums.max_logit, tile.max_logit) + tile.sum_exp;
      sums.max_logit = tile.max_logit;
      sums.best = first_token + tile.best;
    } else {
      sums.sum_exp += tile.sum_exp * Ratio(tile.max_logit, sums.max_logit);
    }
  }
  double log_sum_exp() const {
    return static_cast<double>(sums.max_logit) + PortableLog(sums.sum_exp);
  }

  static double Ratio(float logit, float larger) {
    return PortableExp(static_cast<double>(logit) - static_cast<double>(larger));
  }
};

// What one tile of the vocabulary adds, of one model and position.
struct TileScore {
  LogitSums sums;
  double difference = 0;
};

class Scorer {
 public:
  Scorer(const Runner& runner, std::span<const HeadInput> models,
         std::span<const std::uint32_t> targets)
      : runner_(runner),
        models_(models),
        targets_(targets),
        n_positions_(targets.size()),
        vocab_size_(models.front().model->config().vocab_size),
        hidden_size_(models.front().model->config().hidden_size),
        running_(models.size() * n_positions_),
        target_logits_(models.size() * n_positions_),
        workers_(runner.threads) {}

  std::vector<PositionScores> Run() {
    const std::size_t n_tiles = (vocab_size_ + kTileRows - 1) / kTileRows;
    // Threads finish their tiles in any order; they are added up in that of the vocabulary.
    const std::size_t at_once = 4 * std::size_t{runner_.threads};
    for (std::size_t first = 0; first < n_tiles; first += at_once) {
      const std::size_t n = std::min(at_once, n_tiles - first);
      tiles_.resize(n * running_.size());
      runner_.ForEach(n, [&](std::size_t item, unsigned worker) {
        ScoreTile((first + item) * kTileRows, workers_[worker], &tiles_[item * running_.size()]);
      });
      for (std::size_t item = 0; item < n; ++item)
        Add((first + item) * kTileRows, &tiles_[item * running_.size()]);
    }
    return Finish();
  }

 private:
  struct Worker {
    RowCodec codec;
    std::vector<float> rows, reference_logits, logits;  // [n, hidden_size], [n_positions, n] twice
  };

  void ScoreTile(std::size_t first_token, Worker& worker, TileScore* scores) {
    const std::size_t n = std::min(kTileRows, vocab_size_ - first_token);
    for (std::size_t m = 0; m < models_.size(); ++m) {
      std::vector<float>& logits = m == 0 ? worker.reference_logits : worker.logits;
      worker.rows.resize(n * hidden_size_);
      logits.resize(n * n_positions_);
      models_[m].model->weights().ReadRows({TensorRole::kOutputHead}, first_token, n, worker.codec,
                                           worker.rows);
      MultiplyByRows(models_[m].x->values.data(), n_positions_, hidden_size_, worker.rows.data(), n,
                     logits.data(), n);
      if (const std::span<const float> bias = models_[m].model->head_bias(); !bias.empty()) {
        for (std::size_t i = 0; i < n_positions_; ++i)
          engine::Add(&logits[i * n], &bias[first_token], n);
      }
      if (!AllFinite(logits.data(), logits.size())) {
        throw Error(ErrorCode::kNumeric,
                    "the logits have a NaN or Inf, though the hidden states have none")
            .In(models_[m].model->path());
      }
      for (std::size_t i = 0; i < n_positions_; ++i) {
        TileScore& score = scores[m * n_positions_ + i];
        const float* const row = &logits[i * n];
        score.sums = SumLogits(row, n);
        score.difference = m == 0 ? 0
                                  : SumDifferences(&worker.reference_logits[i * n],
                                                   scores[i].sums.max_logit, row, n);
        if (targets_[i] >= first_token && targets_[i] < first_token + n)
          target_logits_[m * n_positions_ + i] = row[targets_[i] - first_token];
      }
    }
  }

  void Add(std::size_t first_token, const TileScore* scores) {
    const auto token = static_cast<std::uint32_t>(first_token);
    for (std::size_t m = models_.size(); m-- > 0;) {  // the reference last: its maxima are needed
      for (std::size_t i = 0; i < n_positions_; ++i) {
        const TileScore& tile = scores[m * n_positions_ + i];
        Running& running = running_[m * n_positions_ + i];
        if (first_token == 0) {
          running = {tile.sums, tile.difference};
          continue;
        }
        const float old_max = running_[i].sums.max_logit;
        const float tile_max = scores[i].sums.max_logit;
        const float new_max = std::max(old_max, tile_max);
        running.difference = running.difference * Running::Ratio(old_max, new_max) +
                             tile.difference * Running::Ratio(tile_max, new_max);
        running.Add(tile.sums, token);
      }
    }
  }

  std::vector<PositionScores> Finish() const {
    std::vector<PositionScores> scores(models_.size());
    for (std::size_t m = 0; m < models_.size(); ++m) {
      for (std::size_t i = 0; i < n_positions_; ++i) {
        const Running& reference = running_[i];
        const Running& mine = running_[m * n_positions_ + i];
        scores[m].log_prob.push_back(static_cast<double>(target_logits_[m * n_positions_ + i]) -
                                     mine.log_sum_exp());
        scores[m].best.push_back(mine.sums.best);
        const double kl =
            mine.difference / reference.sums.sum_exp + mine.log_sum_exp() - reference.log_sum_exp();
        scores[m].kl.push_back(std::max(kl, 0.0));  // below only by rounding
      }
    }
    return scores;
  }

  const Runner& runner_;
  const std::span<const HeadInput> models_;
  const std::span<const std::uint32_t> targets_;
  const std::size_t n_positions_, vocab_size_, hidden_size_;
  // [models, positions]
  std::vector<Running> running_;
  std::vector<float> target_logits_;
  std::vector<TileScore> tiles_;  // [tiles at once, models, positions]
  std::vector<Worker> workers_;
};

}  // namespace

std::vector<PositionScores> ScorePositions(const Runner& runner, std::span<const HeadInput> models,
                                           std::span<const std::uint32_t> targets) {
  return Scorer(runner, models, targets).Run();
}

}  // namespace phiq::engine
