"""One matplotlib style for every figure, and the figures that more than one notebook draws."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

# Okabe and Ito's colours, told apart by colour-blind readers; their greys differ too.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#7F7F7F"
STYLE = {
    "figure.figsize": (7.0, 3.6),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, GREY]),
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "font.size": 10,
}


def use_style() -> None:
    """Give every figure that follows the series' style."""
    plt.rcParams.update(STYLE)


def length_outlines(ax, words, labels, names) -> None:
    """Outline how many reviews have how many words, one line for each label, on a log scale.

    `words` and `labels` have shape (n,); `names` gives each label's name.
    """
    words, labels = np.asarray(words), np.asarray(labels)
    bins = np.geomspace(max(words.min(), 1), words.max() + 1, 30)
    for label, (name, line) in enumerate(zip(names, ("--", "-"), strict=True)):
        ax.hist(
            words[labels == label], bins, histtype="step", linewidth=2, linestyle=line, label=name
        )
    ax.set_xscale("log")
    ax.set(xlabel="words in the review (logarithmic scale)", ylabel="reviews")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False)


def token_lengths(ax, lengths, limits, chosen, longest=600) -> None:
    """Histogram of tokens a review, with a line at each limit, unbroken at the `chosen` one."""
    ax.hist(np.clip(lengths, 0, longest), bins=40, color=BLUE, edgecolor="white")
    for limit in limits:
        line = "-" if limit == chosen else ":"
        ax.axvline(limit, color=ORANGE, linestyle=line, linewidth=2)
        ax.annotate(f" {limit}", (limit, 1), xycoords=("data", "axes fraction"), va="top")
    ax.set(xlabel=f"tokens in the review ({longest} and more in the last bar)", ylabel="reviews")


def padding(ax, real, processed) -> None:
    """Bars of the tokens processed: the `real` ones, and the padding that makes up the rest.

    `processed` maps each way of forming batches to its number of tokens.
    """
    ways = list(processed)
    ax.barh(ways, [real] * len(ways), color=BLUE, label="real tokens")
    rest = [tokens - real for tokens in processed.values()]
    style = {"color": ORANGE, "hatch": "//", "edgecolor": "white"}
    ax.barh(ways, rest, left=real, label="padding", **style)
    ax.set_xlabel("tokens processed in one epoch")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.grid(axis="y", visible=False)
    ax.invert_yaxis()
    ax.legend(frameon=False, loc="lower right")


def word_weights(ax, words, weights) -> None:
    """Bars of a linear model's weights, negative ones hatched; all of shape (n_words,)."""
    rows, weights = np.arange(len(words)), np.asarray(weights)
    for side, color, hatch in ((weights < 0, ORANGE, "//"), (weights >= 0, BLUE, "")):
        ax.barh(rows[side], weights[side], color=color, hatch=hatch, edgecolor="white")
    ax.set_yticks(rows, words)
    ax.set_xlabel("weight (left: negative, right: positive)")
    ax.grid(axis="y", visible=False)


def loss_curves(ax, train, validation, chance) -> None:
    """Losses over steps: `train` of shape (n, 2), `validation` of shape (m, 2), and guessing."""
    ax.plot(*np.transpose(train), "-", label="train, running mean")
    ax.plot(*np.transpose(validation), "o--", label="validation, after each epoch")
    ax.axhline(chance, color=GREY, linestyle=":", label="guessing, ln 2")
    ax.set(xlabel="step", ylabel="loss (cross-entropy)", ylim=(0, None))
    ax.legend(frameon=False)


def interval_dots(ax, names, values, intervals) -> None:
    """Draw a dot with its interval for each name, the first at the top.

    `values` has shape (n,), `intervals` shape (n, 2) with lower and upper ends.
    """
    values, intervals = np.asarray(values, float), np.asarray(intervals, float)
    rows = np.arange(len(names))[::-1]
    ax.hlines(rows, intervals[:, 0], intervals[:, 1], color=GREY, linewidth=3, alpha=0.6)
    ax.plot(values, rows, "o", color=BLUE, markersize=8)
    for row, value in zip(rows, values, strict=True):
        ax.annotate(f"{value:.2f}", (value, row), (0, 8), textcoords="offset points", ha="center")
    ax.set_yticks(rows, names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.grid(axis="y", visible=False)


def speeds(ax, times) -> None:
    """Draw a bar for each name of the dictionary `times`, the first at the top."""
    rows = np.arange(len(times))[::-1]
    ax.barh(rows, times.values(), color=BLUE, height=0.6)
    for row, value in zip(rows, times.values(), strict=True):
        ax.annotate(f"{value:.1f}", (value, row), (4, 0), textcoords="offset points", va="center")
    ax.set_yticks(rows, times)
    ax.set_xlim(0, 1.1 * max(times.values()))
    ax.grid(axis="y", visible=False)


def waits(ax, milliseconds) -> None:
    """Draw median and 95th percentile for each name of a dictionary of such pairs."""
    rows = np.arange(len(milliseconds))[::-1]
    middle, late = np.array(list(milliseconds.values())).T
    ax.hlines(rows, middle, late, color=GREY, linewidth=3, alpha=0.6)
    ax.plot(middle, rows, "o", color=BLUE, markersize=8)
    for row, value in zip(rows, middle, strict=True):
        ax.annotate(f"{value:.0f}", (value, row), (0, 8), textcoords="offset points", ha="center")
    ax.set_yticks(rows, milliseconds)
    ax.set_xlim(0, 1.1 * late.max())
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.grid(axis="y", visible=False)


def confusion(ax, matrix, labels) -> None:
    """Draw a confusion matrix of counts, rows true and columns predicted, each with its share."""
    matrix = np.asarray(matrix)
    shares = matrix / matrix.sum(axis=1, keepdims=True)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(labels)):
        for column in range(len(labels)):
            dark = shares[row, column] > 0.5
            ax.text(
                column,
                row,
                f"{matrix[row, column]:,}\n{shares[row, column]:.0%}",
                ha="center",
                va="center",
                color="white" if dark else "black",
            )
    ax.set_xticks(range(len(labels)), labels)
    ax.set_yticks(range(len(labels)), labels, rotation=90, va="center")
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    ax.grid(visible=False)


def reliability(ax, tables) -> None:
    """Accuracy over stated confidence, a line for each name in `tables`, beside the ideal diagonal.

    Each table has columns `confidence` and `accuracy`, one row a bin.
    """
    ax.plot([0.5, 1], [0.5, 1], color=GREY, linestyle=":", label="ideal")
    for (name, table), style in zip(tables.items(), ("s--", "o-"), strict=False):
        ax.plot(table["confidence"], table["accuracy"], style, label=name)
    ax.set(xlabel="stated confidence", ylabel="share of right answers", xlim=(0.5, 1.01))
    ax.legend(frameon=False)


def risk_coverage(ax, coverage, risk, chosen) -> None:
    """Errors among the answered reviews over the share answered; a line at the `chosen` share."""
    ax.plot(coverage, risk, color=BLUE)
    ax.axvline(chosen, color=ORANGE, linestyle="--")
    ax.set(xlabel="share of reviews answered, most confident first", ylabel="share of errors")
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.yaxis.set_major_formatter("{x:.0%}")


def tokens(ax, pieces, weights, width=86) -> None:
    """Write tokens line by line on a background that shows their weight: blue for, orange against.

    `weights` has shape (n_tokens,), positive where a token speaks for the positive label. The text
    of a token that speaks against it is underlined, for readers who can't tell the colours.
    """
    strongest = max(np.abs(weights).max(), 1e-12)
    column = row = 0
    for piece, weight in zip(pieces, weights, strict=True):
        text = piece.removeprefix("##")
        column += 0 if piece.startswith("##") or not column else 1
        if column + len(text) > width:
            column, row = 0, row + 1
        color = BLUE if weight > 0 else ORANGE
        box = {
            "facecolor": color,
            "alpha": 0.75 * abs(weight) / strongest,
            "linewidth": 0,
            "pad": 1,
        }
        ax.text(column, -row, text, family="monospace", fontsize=9, bbox=box)
        if weight < -0.2 * strongest:
            ax.plot([column, column + len(text)], [-row - 0.3] * 2, color="black", linewidth=1)
        column += len(text)
    ax.set(xlim=(0, width), ylim=(-row - 0.8, 1))
    ax.axis("off")
