"""The Streamlit app: one review in, its sentiment out. Runs alone, as a Space or by `make app`.

Settings, as environment variables (a Space's variables): MODEL_ID, a Hub id or a folder, and
MODEL_REVISION, a commit to pin. Without MODEL_ID it serves the model that the notebooks made last.
"""

import os
from pathlib import Path

import streamlit as st
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification, AutoTokenizer

NOT_SURE = 0.60  # the app says so below this probability, unless the model brings its own limit
EXAMPLES = {
    "A plain one": "Tender, funny and beautifully acted. I smiled all the way home.",
    "A negation": "Not a single scene worked for me, and nobody behind me laughed.",
    "Praise and blame": "Gorgeous photography, but the story is so dull I nodded off.",
}

st.set_page_config(page_title="Sentiment of a film review")


def model_id() -> str | None:
    """The model to serve: MODEL_ID, else the newest one under the project's artifacts."""
    if os.environ.get("MODEL_ID"):
        return os.environ["MODEL_ID"]
    base = os.environ.get("TUTORIAL_ARTIFACTS") or Path(__file__).parents[2] / "artifacts"
    found = [*Path(base).glob("*/release"), *Path(base).glob("*/model")]
    found = [folder for folder in found if (folder / "config.json").is_file()]
    return str(max(found, key=lambda folder: folder.stat().st_mtime)) if found else None


@st.cache_resource(show_spinner="Loading the model")
def load(name: str, revision: str | None):
    tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    model = AutoModelForSequenceClassification.from_pretrained(name, revision=revision)
    return tokenizer, model.eval()


@st.cache_data(show_spinner=False)
def test_score(name: str, revision: str | None) -> str:
    """The test accuracy in the model's card, or a note that there is none."""
    try:
        card = Path(name, "README.md") if Path(name).is_dir() else name
        results = ModelCard.load(card).data.eval_results or []
    except (OSError, ValueError):
        results = []
    scores = [f"{r.metric_value:.2f}" for r in results if r.metric_type == "accuracy"]
    return f"test accuracy {scores[0]}" if scores else "no test score in its card"


def predict(text: str, tokenizer, model) -> tuple[float, bool]:
    """The probability that `text` is positive, and whether its end had to be cut."""
    limit = tokenizer.model_max_length
    length = len(tokenizer(text, truncation=False, verbose=False)["input_ids"])
    inputs = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
    with torch.inference_mode():
        probabilities = model(**inputs).logits.softmax(-1)[0]
    return float(probabilities[model.config.label2id["positive"]]), length > limit


st.title("Sentiment of a film review")
name, revision = model_id(), os.environ.get("MODEL_REVISION") or None
if name is None:
    st.error("There is no model yet: run `make run`, or set MODEL_ID to a model on the Hub.")
    st.stop()
try:
    tokenizer, model = load(name, revision)
except (OSError, ValueError) as error:
    st.error(f"The model {name} can't be loaded: {error}")
    st.stop()

st.session_state.setdefault("review", "")
for column, (label, text) in zip(st.columns(len(EXAMPLES)), EXAMPLES.items(), strict=True):
    if column.button(label, width="stretch"):
        st.session_state["review"] = text
review = st.text_area("A review, in English", key="review", height=160)

if st.button("Classify", type="primary") or review.strip():
    if not review.strip():
        st.warning("Write or paste a review first.")
    else:
        positive, cut = predict(review, tokenizer, model)
        sentiment = "positive" if positive >= 0.5 else "negative"
        confidence = max(positive, 1 - positive)
        limit = getattr(model.config, "not_sure_below", NOT_SURE)  # set by 04_evaluation
        st.subheader(
            sentiment.capitalize() if confidence >= limit else f"Not sure, perhaps {sentiment}"
        )
        st.progress(positive, text=f"probability of positive: {positive:.0%}")
        if cut:
            st.info(
                f"Only the first {tokenizer.model_max_length} tokens were read; the rest was cut."
            )
shown = Path(name).parent.name + "/" + Path(name).name if Path(name).is_dir() else name
st.caption(
    f"Model: {shown}{' at ' + revision[:8] if revision else ''}, {test_score(name, revision)}."
)
