"""The Streamlit app: reviews in, their sentiment out. Runs alone, as a Space or by `make app`.

`serve.py` starts it with the model loaded; `streamlit run app.py` loads it for the first reader.
"""

import hashlib
import re
from html import escape
from pathlib import Path

import pandas as pd
import streamlit as st
import tables
from huggingface_hub import constants
from loading import load, model
from scoring import MOST_CHARACTERS, Classifier, Score

EXAMPLES = {
    "A plain one": "Tender, funny and beautifully acted. I smiled all the way home.",
    "A negation": "Not a single scene worked for me, and nobody behind me laughed.",
    "Praise and blame": "Gorgeous photography, but the story is so dull I nodded off.",
}
MOST_EXPLAINED = 512  # tokens: an explanation costs about as much as thirty predictions
PREVIEW = 100  # rows
# Neither needs its colour to be told from the other, and both show on light and dark pages.
MARKS = {
    "positive": "font-weight:700;text-decoration:underline;background:rgba(30,120,220,.25)",
    "negative": "font-style:italic;text-decoration:underline wavy;background:rgba(235,120,0,.3)",
}

LEGEND = (
    "<small>Marked are the words that moved the answer most, "
    + " or ".join(f'<span style="{MARKS[to]}">towards {to}</span>' for to in MARKS)
    + ": an estimate, from leaving parts of the review out, and no proof of why.</small>"
)


def plain(text: object) -> str:
    """Escape text for Streamlit's Markdown, which knows HTML, links, images, math and emoji."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|$:~&^=@/])", r"\\\1", str(text))


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """A probability as a percentage that never claims certainty."""
    if share < 0.01:
        return "under 1 %"
    return "over 99 %" if share > 0.99 else f"{share:.0%}".replace("%", " %")


def scale(positive: float, edge: float) -> str:
    """Draw a line from negative to positive with the "not sure" band and a mark on it, as HTML."""
    band = f"left:{100 * (1 - edge):.1f}%;width:{100 * (2 * edge - 1):.1f}%" if edge > 0.5 else ""
    return (
        f'<div role="img" aria-label="probability of positive: {percent(positive)}" '
        'style="position:relative;height:14px;border:1px solid currentColor;border-radius:7px">'
        f'<div style="position:absolute;top:0;height:100%;{band};background:repeating-linear-'
        'gradient(45deg,rgba(128,128,128,.45) 0 4px,transparent 4px 8px)"></div>'
        f'<div style="position:absolute;top:-5px;left:calc({100 * positive:.1f}% - 3px);width:6px;'
        'height:22px;background:currentColor;border-radius:3px"></div></div>'
        '<div style="display:flex;justify-content:space-between;font-size:.85em">'
        "<span>negative</span><span>not sure (hatched)</span><span>positive</span></div>"
    )


def highlight(text: str, words: list[tuple[int, int, float]]) -> str:
    """The review as HTML with its heaviest words marked; everything of the review is escaped."""
    heaviest = max((abs(weight) for *_, weight in words), default=0)
    parts, end = [], 0
    for start, stop, weight in words:
        parts.append(escape(text[end:start]))
        word, end = escape(text[start:stop]), stop
        if heaviest and abs(weight) >= heaviest / 3:
            style = MARKS["positive" if weight > 0 else "negative"]
            word = f'<span style="{style}" title="{weight:+.2f}">{word}</span>'
        parts.append(word)
    body = "".join(parts) + escape(text[end:])
    return f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{body}</div>'


def length_notes(score: Score, window: int) -> None:
    if score.windows > 1:
        st.info(
            f"This review has {score.tokens:,} tokens and the model reads {window} at a time: the "
            f"answer is the average over {score.windows} windows, spread evenly over the review."
        )
    if score.read < 1:
        st.warning(
            f"It is too long to be read whole: the windows hold {percent(score.read)} of it"
            f", of its first {MOST_CHARACTERS:,} characters. Paste a shorter part to have all read."
        )


@st.fragment
def one_review(classifier: Classifier) -> None:
    st.session_state.setdefault("review", "")
    with st.container(horizontal=True):
        for name, text in EXAMPLES.items():
            if st.button(name):
                st.session_state["review"] = text
    review = st.text_area("A review, in English", key="review", height=160)
    pressed = st.button("Classify", type="primary")
    if not review.strip():
        if pressed:
            st.warning("Write or paste a review first.")
        return
    score = classifier.score([review])[0]
    sentiment = "positive" if score.positive >= 0.5 else "negative"
    label = classifier.label(score.positive)
    st.subheader(label.capitalize() if label == sentiment else f"Not sure, perhaps {sentiment}")
    st.write(f"Probability of positive: {percent(score.positive)}")
    st.html(scale(score.positive, classifier.not_sure_below))
    st.caption(f"Less than {percent(classifier.not_sure_below)} sure of either label is not sure.")
    length_notes(score, classifier.window)
    if score.tokens > MOST_EXPLAINED:
        st.caption(f"Words are marked in reviews of up to {MOST_EXPLAINED:,} tokens.")
        return
    with st.spinner("Looking for the words that mattered"):
        words = classifier.explain(review)
    st.html(highlight(review, words))
    st.html(LEGEND)


@st.fragment
def many_reviews(classifier: Classifier) -> None:
    limits = f"{tables.MOST_MEGABYTES} MB and {tables.MOST_REVIEWS:,} reviews"
    uploaded = st.file_uploader(
        f"A CSV file with a column text or review, in UTF-8, at most {limits}: split a larger one",
        type=["csv", "tsv", "txt"],
        # The page's own refusal is a red mark without words; over the limit, `tables` says why.
        max_upload_size=20 * tables.MOST_MEGABYTES,
    )
    pasted = st.text_area("Or a list, one review a line", key="list", height=120)
    if uploaded and pasted.strip():
        st.error("There is a file and a list: remove one of them.")
        return
    try:
        if uploaded:
            table, column = tables.from_csv(uploaded.getvalue())
        elif pasted.strip():
            table, column = tables.from_list(pasted)
        else:
            return
    except tables.UnusableInput as error:
        st.error(plain(error))
        return
    made_of = hashlib.sha256(uploaded.getvalue() if uploaded else pasted.encode()).digest()
    if st.button(f"Score {counted(len(table), 'review')}", type="primary"):
        scored = score_table(table, column, classifier)
        st.session_state["scored"] = (made_of, scored)
    before, scored = st.session_state.get("scored", (None, None))
    if before == made_of:
        show_table(*scored, column)


def score_table(table: pd.DataFrame, column: str, classifier: Classifier) -> tuple:
    """Score a table's reviews; returns it with two columns more, their names and the scores."""
    filled = table[column].str.strip() != ""
    bar = st.progress(0.0, text="Scoring")
    scores = classifier.score(
        table.loc[filled, column].tolist(),
        progress=lambda share: bar.progress(share, text=f"Scoring: {share:.0%} of the text"),
    )
    bar.empty()
    probabilities = pd.Series([score.positive for score in scores], index=table.index[filled])
    labels = probabilities.map(classifier.label).reindex(table.index, fill_value="not scored")
    # A file may well have a column label of its own, which must not be lost.
    label = tables.add_column(table, "predicted_label", labels)
    probability = tables.add_column(table, "probability_positive", probabilities.round(4))
    return table, label, probability, scores


def show_table(table, label: str, probability: str, scores: list[Score], column: str) -> None:
    counts = table[label].value_counts()
    kinds = ("negative", "not sure", "positive")
    bars = pd.DataFrame(
        {"reviews": [int(counts.get(kind, 0)) for kind in kinds]},
        index=[f"{kind} ({counts.get(kind, 0):,})" for kind in kinds],
    )
    summary = ", ".join(f"{counts.get(kind, 0):,} {kind}" for kind in kinds)
    st.subheader(f"{counted(len(scores), 'review')} scored")
    st.write(summary[0].upper() + summary[1:] + ".")
    st.bar_chart(bars, horizontal=True, sort=False, height=190, y_label="", alt=summary)
    empty, partly = int(counts.get("not scored", 0)), sum(score.read < 1 for score in scores)
    if empty:
        st.warning(f"Not scored, because empty: {counted(empty, 'cell')}. The rows say so.")
    if partly:
        st.warning(f"Too long to be read whole, read in parts: {counted(partly, 'review')}.")
    content, made_safe = tables.to_csv(table)
    st.download_button(
        "Download the scores", content, "scored_reviews.csv", "text/csv", on_click="ignore"
    )
    if made_safe:
        st.caption(
            "Where a cell begins with a sign that a spreadsheet takes for a formula, the download "
            f"has an apostrophe before it, so that it stays text: {counted(made_safe, 'cell')}."
        )
    st.dataframe(table[[column, label, probability]].head(PREVIEW), hide_index=True)
    if len(table) > PREVIEW:
        st.caption(f"The first {PREVIEW} of {len(table):,} rows; the download has them all.")


def main() -> None:
    st.set_page_config(page_title="Sentiment of a film review")
    st.title("Sentiment of a film review")
    name, revision = model()
    if name is None:
        st.error("There is no model yet: run `make run`, or set MODEL_ID to a model on the Hub.")
        return
    try:
        with st.spinner("Loading the model"):
            classifier, commit, tested = load(name, revision)
    except Exception as error:  # whatever the reason is, it is the reader's to mend
        st.error(f"The model {plain(name)} can't be loaded: {plain(error)}")
        return
    one, many = st.tabs(["One review", "Many reviews"])
    with one:
        one_review(classifier)
    with many:
        many_reviews(classifier)
    if commit:
        shown = f"[{plain(name)}]({constants.ENDPOINT}/{name}/tree/{commit}) at {commit[:8]}"
    else:
        shown = plain("/".join(Path(name).resolve().parts[-2:]))
    st.caption(f"Model: {shown}, {plain(tested)}.")


main()
