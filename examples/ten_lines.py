"""The README's ten lines: rows in memory to a package and a prediction. Run it with `python examples/ten_lines.py`."""

import corelane

rows = [
    {"colour": "red" if i % 3 else "green", "size_mm": i % 50, "kind": "large" if i % 50 > 25 else "small"}
    for i in range(600)
]
config = {"name": "sizes", "data": {"target": "kind"}, "train": {"epochs": 10}}

run = corelane.train(config, data=rows)
package = corelane.package(run)
with corelane.load(package) as model:
    print(model.predict_rows([{"colour": "red", "size_mm": 40}, {"colour": "blue", "size_mm": None}]))
