"""One matplotlib style for every figure, and the figures that more than one notebook draws."""

import matplotlib.pyplot as plt
import numpy as np

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


def interval_dots(ax, names, values, intervals, reference=None, reference_name="") -> None:
    """Draw a dot with its interval for each name, the first at the top.

    `values` has shape (n,), `intervals` shape (n, 2) with lower and upper ends.
    """
    values, intervals = np.asarray(values, float), np.asarray(intervals, float)
    rows = np.arange(len(names))[::-1]
    ax.hlines(rows, intervals[:, 0], intervals[:, 1], color=GREY, linewidth=3, alpha=0.6)
    ax.plot(values, rows, "o", color=BLUE, markersize=8)
    for row, value in zip(rows, values, strict=True):
        ax.annotate(f"{value:.2f}", (value, row), (0, 8), textcoords="offset points", ha="center")
    if reference is not None:
        ax.axvline(reference, color=ORANGE, linestyle="--", label=reference_name)
        ax.legend(frameon=False, loc="lower right")
    ax.set_yticks(rows, names)
    ax.set_ylim(-0.6, len(names) - 0.4)
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
