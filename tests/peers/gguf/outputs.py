"""The files under test, each made once a run: phiq's, and llama-quantize's from phiq's F32 file."""
import functools

import llama
from program import DATA, HELDOUT, quantize


class Outputs:
    def __init__(self, model, folder):
        self.model = model
        self.folder = folder

    def run_phiq(self, name, *options):
        """Quantizes the checkpoint into `name` and returns its path."""
        return quantize(DATA / self.model, self.folder / name, *options)

    @functools.cache
    def of_phiq(self, file_type):
        return self.run_phiq(f"{self.model}-{file_type}.gguf", "--type", file_type)

    @functools.cache
    def of_llama_quantize(self, file_type):
        out = self.folder / f"{self.model}-{file_type}-llama.gguf"
        llama.run("quantize", self.of_phiq("F32"), out, file_type, 1)
        return out

    @functools.cache
    def divergence_base(self, text=HELDOUT):
        """The F32 file's log-probabilities, which every divergence is measured against."""
        out = self.folder / f"{self.model}-{text.stem}.kl"
        llama.run("perplexity", "-m", self.of_phiq("F32"), "-f", text, *llama.window(256),
                  "--chunks", 64, "--kl-divergence-base", out)
        return out

    def divergence(self, path, text=HELDOUT):
        """llama-perplexity's statistics of the file against the F32 file, as printed."""
        printed = llama.run("perplexity", "-m", path, *llama.window(256), "--chunks", 64,
                            "--kl-divergence-base", self.divergence_base(text), "--kl-divergence")
        start = printed.index("====== Perplexity statistics ======")
        end = printed.index("Same top p:")
        return printed[start:printed.index("\n", end)]
