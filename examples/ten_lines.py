"""The README's ten lines: rows in memory to a package and a prediction. Run it with `python examples/ten_lines.py`."""

from corelane.app import load, package, train

kinds = [(size, colour) for size in range(50) for colour in ("red", "green", "blue") for _ in range(4)]
rows = [{"size_mm": size, "colour": colour, "kind": "large" if size > 25 else "small"} for size, colour in kinds]

run = train({"name": "sizes", "data": {"target": "kind"}, "train": {"epochs": 20}}, data=rows)
path = package(run)
with load(path) as model:
    print(model.predict_rows([{"size_mm": 40, "colour": "red"}, {"size_mm": 3, "colour": None}]))
