"""Loads the model, then starts the app: `python serve.py [options of streamlit run]`.

Streamlit alone would load nothing before the first reader comes, who would wait for it; and a
container would call itself healthy before it can answer.
"""

import sys
from pathlib import Path

from loading import load, model
from streamlit.web import cli

if __name__ == "__main__":
    name, revision = model()
    if name:
        try:
            load(name, revision)
        except Exception as error:  # the page says it too, and the next visit tries again
            print(f"The model {name} can't be loaded: {error}", file=sys.stderr)
    sys.argv = ["streamlit", "run", str(Path(__file__).with_name("app.py")), *sys.argv[1:]]
    sys.exit(cli.main())
